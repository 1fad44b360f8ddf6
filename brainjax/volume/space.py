"""Grids in mm: which voxels a field of view takes, and one separable resampling.

An axis of a grid is `(start, step, size)` in voxel indices of the source: output voxel
k lies at source index `start + k * step`. Indices address voxel centres.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from scipy import sparse


class GridAxis(NamedTuple):
    """Where the voxels of one output axis lie, in source voxel indices."""

    start: float
    step: float
    size: int


class Grid(NamedTuple):
    """Where the voxels of an output volume lie, axis by axis."""

    x: GridAxis
    y: GridAxis
    z: GridAxis

    @property
    def shape(self) -> tuple[int, int, int]:
        """The output's voxels along x, y, z."""
        return self.x.size, self.y.size, self.z.size


def axis_round(centre: float, source_mm: float, mm: float, size: int) -> GridAxis:
    """Gives `size` voxels of `mm` round `centre` (a source index).

    Where the spacings agree the voxels are laid on the source's, so that nothing is
    interpolated; that moves the centre by half a voxel at most.
    """
    step = mm / source_mm
    start = centre - (size - 1) / 2 * step
    if abs(step - 1) < 1e-6:
        return GridAxis(float(np.floor(start + 0.5)), 1.0, size)
    return GridAxis(start, step, size)


def whole_grid(shape: tuple, spacing: tuple, mm: float) -> Grid:
    """Gives a grid of isotropic `mm` voxels that covers the whole source."""
    return Grid(
        *(
            axis_round((n - 1) / 2, s, mm, max(int(np.ceil(n * s / mm)), 1))
            for n, s in zip(shape, spacing, strict=True)
        )
    )


def compose(outer: Grid, inner: Grid) -> Grid:
    """Gives `outer` in the indices of `inner`'s output; both of one source."""
    return Grid(
        *(
            GridAxis((o.start - i.start) / i.step, o.step / i.step, o.size)
            for o, i in zip(outer, inner, strict=True)
        )
    )


def axis_weights(axis: GridAxis, size: int) -> sparse.csr_array:
    """Gives the weights [axis.size, size] that resample one axis of `size` voxels.

    The kernel is a triangle: linear interpolation, widened to the step when shrinking
    so that no frequency folds over. Rows are normalised over the endless axis: what
    lies outside the image counts as 0.
    """
    radius = max(axis.step, 1.0)
    centres = axis.start + axis.step * np.arange(axis.size)
    reach = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 2)
    columns = np.floor(centres).astype(np.int64)[:, None] + reach
    weights = np.clip(1 - np.abs(columns - centres[:, None]) / radius, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(axis.size)[:, None], columns.shape)
    used = (weights > 1e-9) & (columns >= 0) & (columns < size)
    values = weights[used].astype(np.float32)
    return sparse.csr_array(
        (values, (rows[used], columns[used])), shape=(axis.size, size)
    )


def resample(
    voxels: Float32[np.ndarray, "x y z"], grid: Grid
) -> Float32[np.ndarray, "i j k"]:
    """Gives the volume on another grid: anti-aliased trilinear, outside is 0.

    Sums run in one fixed order (no BLAS), so that the same input gives the same bytes.
    """
    if all(axis.step == 1 and axis.start == int(axis.start) for axis in grid):
        return _crop_or_pad(voxels, grid)
    along_x, along_y, along_z = (
        axis_weights(axis, n) for axis, n in zip(grid, voxels.shape, strict=True)
    )
    flat = np.ascontiguousarray(voxels).reshape(voxels.shape[0], -1)
    planes = (along_x @ flat).reshape(grid.x.size, *voxels.shape[1:])
    out = np.empty(grid.shape, np.float32)
    # One plane at a time stays in the cache.
    for plane, target in zip(planes, out, strict=True):
        target[:] = (along_z @ np.ascontiguousarray((along_y @ plane).T)).T
    return out


def grid_affine(
    affine: Float64[np.ndarray, "4 4"], grid: Grid
) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of a volume resampled from one with `affine`."""
    move = np.diag([grid.x.step, grid.y.step, grid.z.step, 1.0])
    move[:3, 3] = [axis.start for axis in grid]
    return affine @ move


def _crop_or_pad(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    out = np.zeros(grid.shape, np.float32)
    source, target = [], []
    for axis, n in zip(grid, voxels.shape, strict=True):
        start = int(axis.start)
        low, high = max(start, 0), min(start + axis.size, n)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    out[tuple(target)] = voxels[tuple(source)]
    return out
