"""A head moved by a known transform is found again; failures show in the metric."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume.itk import Image
from brainjax.volume.levels import pyramid
from brainjax.volume.register import (
    DOUBT,
    Alignment,
    _smaller,
    align_scans,
    align_to_template,
    rigid_part,
    template_levels,
)
from brainjax.volume.starts import points_of
from brainjax.volume.template import CENTRE_MM, load_template, template_grid
from brainjax.volume.through import resample_through
from tests.volume.heads import apart, head, move

SHEAR = np.array([[1, 0, 0, 0], [0, 1, 0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
"""Of a tilted gantry: each slice a little further forward than the last."""


def moved(matrix, sequence="T1w", shear=None):
    """A head as a scanner would see it after `matrix`, on a grid of its own."""
    voxels, affine = head(4.0, sequence)
    grid = affine if shear is None else affine @ shear
    seen = resample_through(voxels, affine, np.linalg.inv(matrix), grid, voxels.shape)
    return seen, grid


def brain():
    """The brain of a head."""
    return np.pad(load_template(4.0).brain, 6)


@pytest.fixture(scope="module")
def turned():
    """A head turned, moved and grown; the truth; where it was found."""
    truth = move((25, -10, 8), (20, -15, 10), 1.05)
    seen = moved(truth)
    return seen, truth, align_to_template(*seen)


def test_a_turned_head_is_found(turned):
    _, truth, found = turned
    assert apart(found.matrix, truth) < 2.0
    assert found.kind == "affine"


def test_a_small_head_of_another_contrast_is_found_on_a_sheared_grid():
    truth = move((-15, 12, 20), (-10, 20, -12), 0.9)
    found = align_to_template(*moved(truth, "T2w", SHEAR))
    assert apart(found.matrix, truth) < 2.0


@pytest.mark.slow
def test_rigid_is_the_rigid_part_and_a_second_call_gives_the_same_bytes(turned):
    seen, _, affine = turned
    rigid = align_to_template(*seen, kind="rigid")
    turn = rigid.matrix[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0
    template = load_template(8.0)
    points = points_of(Image(template.brain, template.affine))
    # Both lay the same brain: no other rigid transform is nearer to the affine.
    assert apart(rigid.matrix, rigid_part(affine.matrix, points)) < 1.0
    assert rigid.metric == affine.metric


def test_a_brain_that_was_drawn_up_to_the_scalp_comes_back_to_its_size():
    voxels, affine = head(4.0, "T2w")
    large = move((0, 0, 0), (0, 0, 0), 1.25)
    large[:3, 3] = CENTRE_MM - large[:3, :3] @ CENTRE_MM
    levels, scan = template_levels(), pyramid(voxels, affine)
    matrix, _ = max(_smaller(levels, scan, (large, 2 * DOUBT)), key=lambda end: end[1])
    assert apart(large, np.eye(4)) > 15
    assert apart(matrix, np.eye(4)) < 4
    assert not _smaller(levels, scan, (0.9 * np.eye(4), DOUBT))


def test_a_near_start_is_enough_and_is_named(turned):
    seen, truth, _ = turned
    near = Alignment(truth @ move((2, -1, 1), (3, -2, 2)), 0.0, "affine")
    one, other = (align_to_template(*seen, start=near) for _ in range(2))
    assert apart(one.matrix, truth) < 2.0
    assert one.matrix.tobytes() == other.matrix.tobytes()
    assert one.metric == other.metric


def test_what_cannot_be_aligned_is_refused():
    nothing = np.zeros((30, 30, 30), np.float32)
    with pytest.raises(InputRefusedError, match="wanted an image, got the constant 0"):
        align_to_template(nothing, np.eye(4))
    with pytest.raises(InputRefusedError, match="wanted an image, got the constant 0"):
        align_scans(*head(), nothing, np.eye(4))
    with pytest.raises(InputRefusedError, match="wanted affine or rigid, got 'warp'"):
        align_to_template(*head(), kind="warp")


def test_scans_of_a_session_meet_across_contrasts():
    truth = move((7, -5, 4), (6, -8, 5))
    found = align_scans(*head(), *moved(truth, "T2w"), inside=brain())
    assert apart(found.matrix, truth) < 0.5
    assert found.kind == "rigid"


def test_scans_of_a_session_meet_where_the_one_that_stays_is_sheared():
    truth = move((7, -5, 4), (6, -8, 5))
    fixed, grid = moved(np.eye(4), shear=SHEAR)
    affine = head()[1]
    inside = resample_through(
        brain().astype(np.float32), affine, np.eye(4), grid, fixed.shape
    )
    found = align_scans(fixed, grid, *moved(truth, "T2w"), inside=inside > 0.5)
    assert apart(found.matrix, truth) < 0.5


@pytest.mark.slow
def test_scans_of_a_session_meet_by_the_whole_head():
    truth = move((-6, 3, 10), (2, 12, -5))
    found = align_scans(*head(), *moved(truth, "T2w"))
    assert apart(found.matrix, truth) < 0.5


@pytest.mark.slow
def test_a_stripped_brain_is_found():
    truth = move((10, 0, -10), (15, 10, 5))
    voxels, affine = head()
    seen = resample_through(
        voxels * brain(), affine, np.linalg.inv(truth), affine, voxels.shape
    )
    assert apart(align_to_template(seen, affine).matrix, truth) < 2.0


@pytest.mark.slow
def test_the_header_alone_moves_nothing_and_a_failure_shows_in_the_metric(turned):
    (seen, affine), _, one = turned
    shift = move((0, 0, 0), (400, -300, 200))
    far = align_to_template(seen, shift @ affine)
    assert apart(np.linalg.inv(shift) @ far.matrix, one.matrix) < 0.2
    nothing = np.random.default_rng(0).random(seen.shape, np.float32)
    assert align_to_template(nothing, affine).metric < 0.5 * one.metric


def test_the_levels_are_of_one_place_and_keep_clear_of_the_cut_stem():
    for level in template_levels():
        assert level.image.voxels.shape == level.inside.voxels.shape
        points = points_of(level.inside)
        middle = (points.min(1) + points.max(1)) / 2
        np.testing.assert_allclose(middle[0], 0, atol=4)
        # Below its last slice the template says nothing of the stem.
        assert points[2].min() >= template_grid(2.0)[1][2, 3] - 4


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
