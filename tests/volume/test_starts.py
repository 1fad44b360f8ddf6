"""Of many places to begin at, the near ones are found."""

import numpy as np

from brainjax.volume.itk import Image
from brainjax.volume.starts import best_starts, placed, shifts, turns
from brainjax.volume.template import CENTRE_MM, load_template
from brainjax.volume.through import resample_through
from tests.volume.heads import apart, head


def seen(matrix, sequence="T1w"):
    """The template's tissues where they count, and a head laid by `matrix`."""
    voxels, affine = head(8.0, sequence)
    moved = resample_through(
        voxels, affine, np.linalg.inv(matrix), affine, voxels.shape
    )
    template = load_template(8.0)
    still = Image(template.grey + 2 * template.white, template.affine)
    return still, Image(template.brain, template.affine), Image(moved, affine)


def places():
    return [
        placed(turn, CENTRE_MM, CENTRE_MM + shift)
        for turn in turns((-24.0, 0.0, 24.0))
        for shift in shifts((-18.0, 0.0, 18.0))
    ]


def test_the_true_start_is_among_the_best_of_all():
    everywhere = places()
    assert len(everywhere) == 27 * 27
    for sequence, number in (("T1w", 40), ("T2w", 700)):
        found = best_starts(*seen(everywhere[number], sequence), everywhere, 5)
        assert len(found) == 5
        assert min(apart(f, everywhere[number]) for f in found) < 1e-9


def test_of_equal_starts_the_first_comes_first():
    near, far = np.eye(4), placed(np.eye(3), CENTRE_MM, CENTRE_MM + 500)
    found = best_starts(*seen(np.eye(4)), [far, near.copy(), near], 3)
    np.testing.assert_array_equal(found, [near, near, far])


def test_turns_turn_about_the_place_they_are_told_to():
    for turn in turns((-20.0, 0.0, 20.0)):
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        matrix = placed(0.9 * turn, CENTRE_MM, np.array([3.0, 4, 5]))
        at = matrix @ [*CENTRE_MM, 1]
        np.testing.assert_allclose(at[:3], (3, 4, 5), atol=1e-12)
    assert len({turn.tobytes() for turn in turns((-20.0, 0.0, 20.0))}) == 27
