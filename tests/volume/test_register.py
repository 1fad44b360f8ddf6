"""A head moved by a known transform is found again; failures show in the metric."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume.mutual import (
    UNIT_MM,
    Still,
    make_moving,
    measure,
    measure_slope,
    spread,
)
from brainjax.volume.register import (
    align_scans,
    align_to_template,
    rigid_part,
    template_levels,
)
from brainjax.volume.template import load_template, template_grid
from brainjax.volume.through import resample_through
from tests.volume.heads import apart, head, move


def moved(matrix, sequence="T1w"):
    """A head as a scanner would see it after `matrix`, on its own grid."""
    voxels, affine = head(4.0, sequence)
    seen = resample_through(voxels, affine, np.linalg.inv(matrix), affine, voxels.shape)
    return seen, affine


@pytest.mark.parametrize(
    ("sequence", "degrees", "shift", "scale"),
    [
        ("T1w", (25, -10, 8), (20, -15, 10), 1.05),
        ("T2w", (-15, 12, 20), (-10, 20, -12), 0.9),
    ],
)
def test_a_moved_head_is_found(sequence, degrees, shift, scale):
    matrix = move(degrees, shift, scale)
    found = align_to_template(*moved(matrix, sequence))
    assert apart(found.matrix, matrix) < 2.5
    assert found.metric > 0.2


@pytest.mark.slow
def test_a_stripped_brain_is_found_through_a_sheared_affine():
    voxels, affine = head()
    template = load_template(4.0)
    brain = np.pad(template.brain, 6)
    shear = np.eye(4)
    shear[1, 2] = 0.2
    place = move((10, 0, -10), (15, 10, 5))
    # The same brain on a sheared grid: only the transform through it is right.
    grid = place @ affine @ shear
    seen = resample_through(
        voxels * brain, affine, np.linalg.inv(place), grid, voxels.shape
    )
    found = align_to_template(seen, grid)
    assert apart(found.matrix, place) < 2.0


def test_rigid_is_the_rigid_part_to_the_byte_and_kinds_are_named():
    seen = moved(move((8, 4, -6), (5, 5, 5), 0.92))
    affine, rigid = (align_to_template(*seen, kind=k) for k in ("affine", "rigid"))
    turn = rigid.matrix[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0
    # Two runs: the same bytes.
    points = template_levels()[-1].still.points
    assert rigid.matrix.tobytes() == rigid_part(affine.matrix, points).tobytes()
    assert rigid.metric == affine.metric
    with pytest.raises(InputRefusedError, match="wanted affine or rigid, got 'warp'"):
        align_to_template(*seen, kind="warp")


@pytest.mark.slow
def test_the_header_alone_moves_nothing_and_a_failure_shows_in_the_metric():
    seen, affine = moved(move((5, 0, 0), (3, 0, 0)))
    one = align_to_template(seen, affine)
    shift = move((0, 0, 0), (400, -300, 200))
    far = align_to_template(seen, shift @ affine)
    assert apart(np.linalg.inv(shift) @ far.matrix, one.matrix) < 0.2
    nothing = np.random.default_rng(0).random(seen.shape, np.float32)
    assert align_to_template(nothing, affine).metric < 0.1 * one.metric


def test_a_constant_is_refused():
    with pytest.raises(InputRefusedError, match="wanted an image, got the constant 0"):
        align_to_template(np.zeros((30, 30, 30), np.float32), np.eye(4))


def test_scans_of_a_session_meet_across_contrasts():
    voxels, affine = head(4.0, "T1w")
    matrix = move((7, -5, 4), (6, -8, 5))
    other, grid = moved(matrix, "T2w")
    brain = np.pad(load_template(4.0).brain, 6)
    found = align_scans(voxels, affine, other, grid, inside=brain)
    assert apart(found.matrix, matrix) < 1.5
    assert found.kind == "rigid"


@pytest.mark.slow
def test_scans_of_a_session_meet_by_the_whole_head():
    voxels, affine = head(4.0, "T1w")
    matrix = move((-6, 3, 10), (2, 12, -5))
    found = align_scans(voxels, affine, *moved(matrix, "T2w"))
    assert apart(found.matrix, matrix) < 1.5


def test_slopes_are_those_of_the_measure():
    voxels, affine = head()
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (3, 4000))
    classes, shares = spread(rng.random(4000, np.float32), 4)
    smooth = np.linspace(0, 1, voxels.shape[0], dtype=np.float32)[:, None, None]
    moving = make_moving(voxels * 0.1 + smooth, affine, (0.0, 1.2))
    still = Still(points, classes, shares, np.zeros(3))
    # Classes that know the place, so that there is something to climb.
    still = still._replace(classes=(points[0] // 34 + 2).astype(np.int32)[None])
    still = still._replace(shares=np.ones((1, 4000), np.float32))
    slope = measure_slope(still, moving, np.eye(4)).slope
    for entry in (0, 9):
        ends = []
        for step in (0.05, -0.05):
            change = np.zeros(12)
            change[entry] = step
            matrix = np.eye(4)
            matrix[:3, :3] += change[:9].reshape(3, 3) / UNIT_MM
            matrix[:3, 3] = change[9:]
            ends.append(measure(still, moving, matrix))
        assert slope[entry] == pytest.approx(
            (ends[0] - ends[1]) / 0.1, rel=0.1, abs=5e-5
        )


@pytest.mark.parametrize("mm", [1.0, 2.0, 3.0])
def test_the_template_lies_where_its_affine_says(mm):
    template = load_template(mm)
    shape, affine = template_grid(mm)
    assert template.t1.shape == shape
    at = affine[:3, :3] @ np.argwhere(template.brain).mean(0) + affine[:3, 3]
    np.testing.assert_allclose(at, (0, -22, 9.5), atol=0.7)
    litres = template.brain.sum() * mm**3 / 1e6
    assert litres == pytest.approx(1.886, rel=0.01)
    assert (template.grey + template.white <= 1.001).all()


def test_templates_of_odd_spacings_are_refused():
    with pytest.raises(InputRefusedError, match=r"wanted 0\.5 to 16 mm, got 40"):
        load_template(40.0)
