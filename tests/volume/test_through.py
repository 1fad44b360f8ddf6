"""Resampling through one transform: exact where it can be, in mm everywhere."""

import numpy as np
import pytest

from brainjax.volume.through import resample_through
from tests.volume.heads import move

SHAPE = (12, 15, 10)
AFFINE = np.array(
    [[1.8, 0.2, 0.1, -9], [-0.2, 2.1, 0, 4], [0, 0.3, 2.5, 7], [0, 0, 0, 1.0]]
)
"""Oblique and sheared."""


def ramp(affine, shape=SHAPE):
    """A volume whose value is a linear function of the place in mm."""
    at = np.indices(shape).reshape(3, -1)
    mm = affine[:3, :3] @ at + affine[:3, 3:]
    return (np.array([0.5, -0.3, 0.8]) @ mm).reshape(shape).astype(np.float32)


def noise(shape=SHAPE):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", ["linear", "nearest", "spline"])
def test_identity_copies(order):
    voxels = noise()
    out = resample_through(voxels, AFFINE, np.eye(4), AFFINE, SHAPE, order=order)
    np.testing.assert_array_equal(out, voxels)


def test_a_whole_shift_copies_and_fills():
    voxels, there = noise(), AFFINE.copy()
    there[:3, 3] += AFFINE[:3, :3] @ [2, -1, 0]
    out = resample_through(voxels, AFFINE, np.eye(4), there, SHAPE, outside=-7)
    np.testing.assert_array_equal(out[:10, 1:], voxels[2:, :-1])
    assert (out[10:] == -7).all()
    assert (out[:, 0] == -7).all()


@pytest.mark.parametrize("order", ["linear", "spline"])
@pytest.mark.parametrize("mm", [1.3, 4.0])
def test_places_are_right_through_shear_turn_and_scale(order, mm):
    matrix = move((20, -10, 5), (3, -2, 1), 1.1)
    out_affine = np.diag([mm, mm, mm, 1.0])
    shape = (8, 8, 8)
    middle = AFFINE @ [5.5, 7, 4.5, 1]
    centre = np.linalg.inv(matrix) @ middle
    out_affine[:3, 3] = centre[:3] - 3.5 * mm
    out = resample_through(
        ramp(AFFINE), AFFINE, matrix, out_affine, shape, order=order, outside=np.nan
    )
    wanted = ramp(matrix @ out_affine, shape)
    inner = np.s_[3:5, 3:5, 3:5]
    # A spline bends near the edges of the little volume.
    np.testing.assert_allclose(
        out[inner], wanted[inner], atol=1e-3 if order == "linear" else 0.3
    )


def test_half_a_voxel_is_the_mean_of_two():
    voxels, there = noise(), AFFINE.copy()
    there[:3, 3] += AFFINE[:3, 0] / 2
    out = resample_through(voxels, AFFINE, np.eye(4), there, (11, 15, 10))
    np.testing.assert_allclose(out, (voxels[1:] + voxels[:-1]) / 2, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_averages(factor):
    voxels = noise((24, 24, 24))
    coarse = np.diag([factor] * 3 + [1.0])
    coarse[:3, 3] = (factor - 1) / 2
    out = resample_through(voxels, np.eye(4), np.eye(4), coarse, (24 // factor,) * 3)[
        1:-1, 1:-1, 1:-1
    ]
    # A mean over a voxel leaves little of white noise; one sample would leave it all.
    assert out.std() < 1.3 / factor**1.5
    flat = resample_through(
        np.ones_like(voxels), np.eye(4), np.eye(4), coarse, (24 // factor,) * 3
    )
    np.testing.assert_allclose(flat[1:-1, 1:-1, 1:-1], 1, atol=1e-5)


def test_labels_stay_labels():
    labels = np.random.default_rng(1).choice([0, 3, 17, 208], SHAPE)
    matrix = move((10, 5, 3), (1, 0, 2))
    out = resample_through(labels, AFFINE, matrix, AFFINE, SHAPE, order="nearest")
    assert set(np.unique(out)) <= {0, 3, 17, 208}


def test_far_away_is_outside():
    far = move((0, 0, 0), (5000, 0, 0))
    out = resample_through(noise(), AFFINE, far, AFFINE, SHAPE, outside=3)
    assert (out == 3).all()


def test_there_and_back_gives_the_same_place():
    matrix = move((25, 10, -8), (4, 4, 4))
    voxels = ramp(AFFINE, (20, 20, 20))
    there = resample_through(voxels, AFFINE, matrix, AFFINE, (20, 20, 20))
    back = resample_through(there, AFFINE, np.linalg.inv(matrix), AFFINE, (20, 20, 20))
    inner = np.s_[9:11, 9:11, 9:11]
    np.testing.assert_allclose(back[inner], voxels[inner], atol=1e-2)
