"""However a scan is stored, its canonical volume is one and the same."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from brainjax.volume import make_recipe, prepare_volume
from tests.volume.scans import SHAPE, affine, body, write

LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
ORIENTATIONS = [
    "".join(signs) for order in permutations(LETTERS) for signs in product(*order)
]


def stored(codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The body and its affine, with array axes that point as the letters say."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    voxels = nib.orientations.apply_orientation(body(), turn)
    return voxels, affine() @ nib.orientations.inv_ornt_aff(turn, SHAPE)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("spacing", [4.5, 6.0])
@pytest.mark.parametrize("mask", ["canonical", "raw_head"])
def test_all_48_orientations_give_one_array(spacing, mask, tmp_path):
    side = 32 * spacing
    recipe = make_recipe(mask, spacing=spacing, fov_mm=(side, side, side))
    wanted = prepare_volume(write(tmp_path / "RAS.nii"), recipe)
    for codes in ORIENTATIONS:
        voxels, matrix = stored(codes)
        path = write(tmp_path / f"{codes}.nii", voxels, matrix)
        found = prepare_volume(path, recipe)
        assert found.provenance["orientation"] == codes
        assert np.array_equal(found.codes, wanted.codes), codes
        np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-3)


def test_the_right_front_top_is_at_the_end_of_every_axis(tmp_path):
    recipe = make_recipe(spacing=4.0)
    codes = prepare_volume(write(tmp_path / "scan.nii.gz"), recipe).codes
    bright = np.argwhere(codes > 250).mean(axis=0)
    assert (bright > np.array(codes.shape) / 2).all()


def test_a_marked_point_keeps_its_place_in_mm(tmp_path):
    recipe = make_recipe(spacing=3.0)
    volume = prepare_volume(write(tmp_path / "scan.nii.gz"), recipe)
    index = np.append(np.argwhere(volume.codes > 250).mean(axis=0), 1)
    block = affine() @ [18.0, 23.5, 18.0, 1.0]
    np.testing.assert_allclose((volume.affine @ index)[:3], block[:3], atol=2.0)
