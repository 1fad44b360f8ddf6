"""The way back: from the space of a recipe to the grid of the scan's own file.

Axes and directions of that grid are the file's, so that what is written on it lies over
the scan in every viewer, voxel by voxel. Values are carried in one resampling.
"""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Float64, Shaped

from brainjax.errors import InputRefusedError
from brainjax.volume.affines import header_affine, is_unstated, unstated_affine
from brainjax.volume.dicom import is_dicom, read_series
from brainjax.volume.nifti import read_header
from brainjax.volume.space import Grid, GridAxis, axis_weights
from brainjax.volume.through import Order, resample_through

STRAIGHT = 1e-7
"""Of a turn so small, no voxel of a grid of a thousand is moved by 0.1 micrometre."""


class FileGrid(NamedTuple):
    """The grid of a file or series, as it is stored.

    Attributes:
        shape: voxels along the three stored axes.
        affine: stored voxel indices to mm, RAS+.
        header: of the NIfTI file; None of a DICOM series.
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]
    header: nib.Nifti1Header | None


def file_grid(path: str | Path, *, orientation: str | None = None) -> FileGrid:
    """Gives the grid of a NIfTI file or DICOM series, without reading a file's values.

    orientation: of a file whose header states none, such as "RAS"; without it that is
    taken for RAS. Raises InputRefusedError, one line that names the file.
    """
    if is_dicom(path):
        series = read_series(path)
        return FileGrid(_shape(path, series.stored.shape), series.affine, None)
    header = read_header(path)
    shape = _shape(path, header.get_data_shape())
    if is_unstated(header) and orientation is None:
        return FileGrid(shape, unstated_affine(header, shape), header)
    return FileGrid(shape, header_affine(path, header, shape, orientation), header)


def _shape(path: str | Path, shape: tuple) -> tuple[int, int, int]:
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise InputRefusedError(f"{path}: wanted one 3D volume, got {tuple(shape)}")
    x, y, z = (int(n) for n in shape[:3])
    return x, y, z


def bring_back(
    values: Shaped[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    to_scan: Float64[np.ndarray, "4 4"],
    scan_affine: Float64[np.ndarray, "4 4"],
    scan_shape: tuple[int, int, int],
    *,
    order: Order = "nearest",
    outside: float = 0.0,
) -> Float32[np.ndarray, "i j k"]:
    """Gives a map made on a canonical volume on a grid of its scan, in any orientation.

    One resampling, through the inverse of what was kept. Where the axes of the two
    grids are parallel it goes axis by axis (see `space.axis_weights`), else as
    `resample_through` does it.

    Args:
        values: on the canonical grid, as a segmentation or a saliency map.
        affine: of the canonical volume, as in the manifest.
        to_scan: mm of the canonical volume to mm of the scan, as in the manifest; the
            identity for recipes that leave a scan in its own space.
        scan_affine, scan_shape: of the grid to come back to, as of `mask.nii.gz` or of
            `file_grid`.
        order: "nearest" for labels, "linear" for the rest.
        outside: what lies beyond the canonical volume.
    """
    values = np.asarray(values, np.float32)
    back = np.linalg.inv(to_scan)
    pull = np.linalg.inv(affine) @ back @ scan_affine
    straight = _axes(pull, scan_shape) if order != "spline" else None
    if straight is None:
        return resample_through(
            values, affine, back, scan_affine, scan_shape, order=order, outside=outside
        )
    turn, grid = straight
    if order == "nearest":
        return _pick(values.transpose(turn), grid, outside)
    return _blend(values.transpose(turn), grid, outside)


def to_file_grid(
    values: Shaped[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    to_scan: Float64[np.ndarray, "4 4"],
    grid: FileGrid,
    *,
    order: Order = "nearest",
    outside: float = 0.0,
) -> Float32[np.ndarray, "i j k"]:
    """Gives a map made on a canonical volume on the grid of its file; see `bring_back`.

    grid: of `file_grid`.
    """
    words = {"order": order, "outside": outside}
    return bring_back(values, affine, to_scan, grid.affine, grid.shape, **words)


def _axes(
    pull: Float64[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> tuple[tuple[int, ...], Grid] | None:
    """Gives which source axis each output axis runs along, and where on it."""
    steps = pull[:3, :3]
    turn = tuple(int(axis) for axis in np.abs(steps).argmax(axis=0))
    along = np.zeros((3, 3), bool)
    along[list(turn), range(3)] = True
    if sorted(turn) != [0, 1, 2] or np.abs(steps[~along]).max() > STRAIGHT:
        return None
    x, y, z = (
        GridAxis(
            _near(pull[axis, 3], 1e-4), _near(steps[axis, number], 1e-6), shape[number]
        )
        for number, axis in enumerate(turn)
    )
    return turn, Grid(x, y, z)


def _near(number: float, rounding: float) -> float:
    """Gives the whole or half number that this is but for the rounding of headers."""
    whole = float(np.round(number * 2) / 2)
    return whole if abs(number - whole) < rounding else float(number)


def _pick(
    values: Float32[np.ndarray, "x y z"], grid: Grid, outside: float
) -> Float32[np.ndarray, "i j k"]:
    """Gives the nearest voxels."""
    places, inside = [], []
    for axis, size in zip(grid, values.shape, strict=True):
        at = np.floor(axis.start + axis.step * np.arange(axis.size) + 0.5).astype(int)
        inside.append((at >= 0) & (at < size))
        places.append(np.clip(at, 0, size - 1))
    out = values[np.ix_(*places)]
    for axis, known in enumerate(inside):
        np.moveaxis(out, axis, 0)[~known] = outside
    return out


def _blend(
    values: Float32[np.ndarray, "x y z"], grid: Grid, outside: float
) -> Float32[np.ndarray, "i j k"]:
    """Interpolates linearly, axis by axis; the shorter arrays first."""
    out = values - np.float32(outside)
    order = sorted(range(3), key=lambda a: grid[a].size / values.shape[a])
    for number in order:
        forwards = _forwards(grid[number])
        weights = axis_weights(forwards, out.shape[number])
        moved = np.ascontiguousarray(np.moveaxis(out, number, 0))
        laid = weights @ moved.reshape(moved.shape[0], -1)
        laid = laid.reshape(-1, *moved.shape[1:])
        if grid[number].step < 0:
            laid = laid[::-1]
        out = np.moveaxis(laid, 0, number)
    return np.ascontiguousarray(out) + np.float32(outside)


def _forwards(axis: GridAxis) -> GridAxis:
    """Gives an axis that runs with its source's indices."""
    if axis.step > 0:
        return axis
    last = axis.start + axis.step * (axis.size - 1)
    return GridAxis(last, -axis.step, axis.size)
