"""What is found on a canonical volume comes back to its place on a file's grid."""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from brainjax.volume import make_recipe, prepare_volume
from brainjax.volume.components import clean
from brainjax.volume.native import FileGrid, bring_back, file_grid, to_file_grid
from brainjax.volume.outlines import labels_on, masks_on
from brainjax.volume.through import resample_through
from tests.volume.scans import SHAPE, affine, body, write
from tests.volume.test_orientation import ORIENTATIONS, stored

RNG = np.random.default_rng(5)
EYE = np.eye(4)


def turned(degrees: float) -> np.ndarray:
    """An affine of oblique slices, with the spacing of the test scans."""
    angle = np.deg2rad(degrees)
    matrix = affine()
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[1:3, :3] = turn @ matrix[1:3, :3]
    return matrix


@pytest.mark.parametrize("mm", [6.0, 4.5, 3.0])
def test_a_landmark_on_the_right_stays_there_in_all_48_orientations(mm, tmp_path):
    side = 32 * mm
    recipe = make_recipe(spacing=mm, fov_mm=(side, side, side))
    for codes in ORIENTATIONS:
        voxels, matrix = stored(codes)
        path = write(tmp_path / f"{codes}.nii", voxels, matrix)
        canonical = prepare_volume(path, recipe)
        grid = file_grid(path)
        assert (grid.shape, nib.aff2axcodes(grid.affine)) == (
            voxels.shape,
            tuple(codes),
        )
        block = (voxels == 900).astype(np.uint8)
        there = (canonical.affine, canonical.codes.shape)
        marked = bring_back(block, matrix, EYE, *there, order="linear")
        back = to_file_grid(marked, canonical.affine, EYE, grid, order="linear") > 0.4
        found = np.argwhere(back).mean(0)
        np.testing.assert_allclose(found, np.argwhere(block).mean(0), atol=0.51)
        mm_found = grid.affine @ [*found, 1]
        assert mm_found[0] > matrix[0] @ [*((np.array(voxels.shape) - 1) / 2), 1]


@pytest.mark.parametrize("degrees", [0, 25])
def test_a_map_on_the_scans_own_voxels_comes_back_untouched(degrees, tmp_path):
    path = write(tmp_path / "scan.nii", matrix=turned(degrees))
    grid = file_grid(path)
    labels = RNG.integers(0, 5, SHAPE).astype(np.uint8)
    for order in ("nearest", "linear"):
        back = to_file_grid(labels, grid.affine, EYE, grid, order=order)
        assert np.array_equal(back, labels)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASL", "IRP"])
@pytest.mark.parametrize("mm", [2.5, 9.0])
def test_axis_by_axis_is_the_general_way(codes, mm):
    _, matrix = stored(codes)
    canonical = np.diag([5.0, 5.0, 5.0, 1.0])
    canonical[:3, 3] = [-75, -90, -60]
    values = gaussian_filter(RNG.random((28, 34, 30)), 0.5).astype(np.float32)
    scale = mm / 5
    coarse = matrix @ np.diag([scale, scale, scale, 1])
    shape = (20, 18, 16)
    for order in ("nearest", "linear"):
        plain = resample_through(values, canonical, EYE, coarse, shape, order=order)
        ours = bring_back(values, canonical, EYE, coarse, shape, order=order)
        at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        at = at @ (np.linalg.inv(canonical) @ coarse)[:3, :3].T
        at = at + (np.linalg.inv(canonical) @ coarse)[:3, 3]
        inner = ((at > 2) & (at < np.array(values.shape) - 3)).all(-1)
        assert inner.sum() > 500
        # Where the grid is coarser, the two smooth alike but not the same.
        atol = 0.1 if order == "linear" and mm > 5 else 2e-3
        assert (np.abs(plain - ours)[inner] > atol).mean() < 1e-3


def softmax_of(shape, classes):
    logits = RNG.normal(size=(classes, *shape)) * 3
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    logits[0] += (np.square(grid).sum(0) > 30) * 40
    logits -= logits.max(0)
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("zoom", [0.4, 1.8])
def test_boxes_change_nothing(degrees, zoom):
    values = softmax_of((14, 16, 12), 4)
    canonical = turned(degrees)
    away = np.eye(4)
    away[:3, 3] = [7, -3, 2]
    grid = FileGrid((30, 29, 31), affine() @ np.diag([zoom, zoom, zoom, 1]), None)
    way = (canonical, away, grid)
    laid = [
        to_file_grid(each, *way, order="linear", outside=float(number == 0))
        for number, each in enumerate(values)
    ]
    wanted = np.argmax(laid, axis=0)
    assert len(np.unique(wanted)) == 4
    assert np.array_equal(labels_on(values, *way), wanted)
    masks = masks_on(values[1:], *way)
    assert np.array_equal(masks, np.moveaxis(np.stack(laid[1:]) > 0.5, 0, -1))


def test_nothing_found_is_nothing_anywhere():
    values = np.zeros((3, 8, 8, 8), np.float32)
    values[0] = 1
    grid = FileGrid((9, 9, 9), EYE, None)
    assert not labels_on(values, EYE, EYE, grid).any()
    assert not masks_on(values[1:], EYE, EYE, grid).any()


def test_small_parts_go_and_the_largest_stays():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:5, 1:5, 1:5] = 1  # 64 voxels
    labels[8:10, 8:10, 8:10] = 1  # 8
    labels[11, 0, 0] = 1
    labels[6:8, 1:4, 1:4] = 2  # 18, beside class 1
    matrix = np.diag([2.0, 2.0, 2.5, 1.0])  # 0.01 ml a voxel
    assert clean(labels, matrix) is labels
    alone = clean(labels, matrix, largest=True)
    assert [int((alone == n).sum()) for n in (1, 2)] == [64, 18]
    some = clean(labels, matrix, least_ml=0.05)
    assert [int((some == n).sum()) for n in (1, 2)] == [72, 18]
    masks = np.stack([labels > 0, labels == 2], -1)
    assert clean(masks, matrix, least_ml=0.15).sum((0, 1, 2)).tolist() == [82, 18]
    nothing = clean(labels, matrix, least_ml=10.0, largest=True)
    assert not nothing.any()


def test_a_file_that_states_no_orientation_is_taken_for_ras(tmp_path):
    path = write(tmp_path / "scan.nii", body(), sform_code=0)
    assert nib.aff2axcodes(file_grid(path).affine) == ("R", "A", "S")
    assert nib.aff2axcodes(file_grid(path, orientation="LAS").affine)[0] == "L"
