"""Images, shear and transforms keep their mm on the way through SimpleITK."""

import numpy as np
import pytest

from brainjax.volume.itk import Image, climb, straighten, to_itk
from brainjax.volume.template import CENTRE_MM
from brainjax.volume.through import resample_through
from tests.volume.heads import apart, head, move

OBLIQUE = move((20, -35, 70), (12, -7, 31)) @ np.diag([0.8, 1.5, 2.5, 1])
MIRRORED = OBLIQUE @ np.diag([-1, 1, 1, 1.0])
SHEARED = np.array([[1, 0, 0, 5], [0, 2, 0.6, -3], [0, 0, 2, 8], [0, 0, 0, 1.0]])


def noise(shape=(4, 5, 6)):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED])
def test_an_image_keeps_its_voxels_where_they_are(affine):
    voxels = noise()
    found = to_itk(Image(voxels, affine))
    for index in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (0, 0, 5), (2, 3, 1)):
        place = found.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(place, (affine @ [*index, 1])[:3], atol=1e-6)
        assert found[index] == voxels[index]


def test_masks_are_images_too():
    mask = noise() > 0.5
    found = to_itk(Image(mask, OBLIQUE))
    assert [found[2, 3, 1], found[0, 0, 0]] == [int(mask[2, 3, 1]), int(mask[0, 0, 0])]


def test_shear_goes_into_a_transform():
    assert straighten(Image(noise(), OBLIQUE))[0] is None
    skew, straight = straighten(Image(noise(), SHEARED))
    axes = straight.affine[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.diag(np.diag(axes) ** 2), atol=1e-9)
    # A place of the scan and the same place of the straight image hold one voxel.
    index = np.array([1, 2, 3, 1.0])
    np.testing.assert_allclose(
        skew @ SHEARED @ index, straight.affine @ index, atol=1e-9
    )


def climbed(kind, truth, start, grid_of=lambda affine: affine):
    """A climb over a head at 8 mm that lies by `truth`, on a grid of its own."""
    voxels, affine = head(8.0)
    grid = grid_of(affine)
    seen = resample_through(voxels, affine, np.linalg.inv(truth), grid, voxels.shape)
    still, inside = Image(voxels, affine), Image(voxels > 0.2, affine)
    return climb(still, inside, Image(seen, grid), start, kind=kind, centre=CENTRE_MM)


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_climb_ends_where_the_scan_lies_though_its_grid_is_sheared(kind):
    truth = move((6, -4, 5), (4, -6, 3))
    shear = np.eye(4)
    shear[1, 2] = 0.2
    found, metric = climbed(kind, truth, np.eye(4), lambda affine: affine @ shear)
    assert apart(found, truth) < 2.5
    assert metric > climbed(kind, truth, move((0, 0, 0), (90, 0, 0)))[1]


def test_a_sized_climb_keeps_the_size_of_its_start():
    truth = move((6, -4, 5), (4, -6, 3), 0.9)
    found, _ = climbed("sized", truth, move((0, 0, 0), (0, 0, 0), 0.9))
    turn = found[:3, :3] / 0.9
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert apart(found, truth) < 2.5


def test_a_climb_repeats_to_the_byte():
    truth = move((6, -4, 5), (4, -6, 3))
    (one, a), (other, b) = (climbed("affine", truth, np.eye(4)) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert a == b


def test_where_nothing_is_shared_a_climb_ends_where_it_began():
    away = move((0, 0, 0), (5000, 0, 0))
    found, metric = climbed("affine", np.eye(4), away)
    np.testing.assert_allclose(found, away, atol=1e-9)
    assert metric == 0
