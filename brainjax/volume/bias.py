"""N4 bias field correction (Tustison et al. 2010): estimated small, applied in full."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage, sparse

from brainjax.errors import InputRefusedError
from brainjax.volume.itk import Image, one_thread, simple_itk, to_itk
from brainjax.volume.space import Grid, resample, whole_grid

SHRINK_MM = 6.0
"""Voxels on which the field is looked for; it is smooth, so that little is lost."""

ROUNDS = (50, 50, 50)
"""At most, at each level; the spline's knots double from one to the next.

A fourth level evens the white matter of a head more, and takes away more than its
field: beside fields that are known it leaves twice as much (benchmarks/RESULTS.md).
"""

TOLERANCE = 1e-3
"""Change of the field's coefficient of variation that ends a level."""

LIMIT = 1.5
"""Of the log field: no scanner's field goes beyond a factor of 4.5 either way."""

LEAST_VOXELS = 200
MOST_DARK = 0.1
"""Above this share of values that are not positive a scan has no log to speak of."""


class Corrected(NamedTuple):
    """A scan divided by its field, and the field (1 in the mean inside)."""

    voxels: Float32[np.ndarray, "x y z"]
    field: Float32[np.ndarray, "x y z"]


def correct_bias(
    voxels: Float32[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    inside: Bool[np.ndarray, "x y z"],
    *,
    shrink_mm: float = SHRINK_MM,
) -> Corrected:
    """Gives a scan without its bias field.

    Args:
        voxels: the scan, of positive values.
        spacing: in mm.
        inside: where the field is looked for: the brain, roughly. Beyond it the spline
            runs on, and means little.
        shrink_mm: spacing on which the field is looked for; it is smooth, so that
            nothing is lost, and evaluated for every voxel.

    The mean logarithm inside stays as it was. Raises InputRefusedError where there is
    next to nothing inside or where over a tenth of it is not positive (a z-scored
    scan, which has lost its field's zero).
    """
    body = voxels[inside]
    if body.size:
        dark = float((body <= 0).mean())
        if dark > MOST_DARK:
            raise InputRefusedError(
                f"bias: wanted positive values inside, got {dark:.0%} that are not"
            )
    mm = [max(shrink_mm, s) for s in spacing]
    grid = Grid(
        *(whole_grid(voxels.shape, spacing, step)[axis] for axis, step in enumerate(mm))
    )
    share = resample(inside.astype(np.float32), grid)
    # The mean of what is inside: air beside the skin is not a dark place of the head.
    small = resample(np.where(inside, voxels, 0), grid) / np.maximum(share, 1e-3)
    mask = (share > 0.5) & (small > 0)
    if np.count_nonzero(mask) < LEAST_VOXELS:
        raise InputRefusedError(
            f"bias: wanted at least {LEAST_VOXELS} voxels of {shrink_mm:g} mm inside, "
            f"got {np.count_nonzero(mask)}"
        )
    log_field = _n4(small, mask, mm)
    log_field = np.clip(log_field - log_field[mask].mean(), -LIMIT, LIMIT)
    field = np.exp(_evaluate(log_field.astype(np.float32), grid, voxels.shape))
    return Corrected(voxels / field, field)


def _n4(
    voxels: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    mm: list[float],
) -> Float64[np.ndarray, "x y z"]:
    """Gives the logarithm of the field, by SimpleITK."""
    itk = simple_itk()
    affine = np.diag([*mm, 1.0])
    # Its logarithm wants values above 0, outside the mask too.
    image = to_itk(Image(np.maximum(voxels, 1e-6 * voxels.max()), affine))
    with one_thread():
        way = itk.N4BiasFieldCorrectionImageFilter()
        way.SetMaximumNumberOfIterations(ROUNDS)
        way.SetConvergenceThreshold(TOLERANCE)
        way.Execute(image, to_itk(Image(mask, affine)))
        field = itk.GetArrayFromImage(way.GetLogBiasFieldAsImage(image))
    return np.asarray(field, np.float64).T


def _along(values: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Gives values after one matrix [out, in] an axis.

    Sums of a fixed order, not BLAS: threads must not change the bytes.
    """
    for weight in weights:
        out = sparse.csr_array(weight) @ values.reshape(values.shape[0], -1)
        values = np.moveaxis(out.reshape(-1, *values.shape[1:]), 0, -1)
        values = np.ascontiguousarray(values)
    return values


def _evaluate(
    small: Float32[np.ndarray, "i j k"], grid: Grid, shape: tuple
) -> Float32[np.ndarray, "x y z"]:
    """Gives a smooth field on the full grid by cubic splines, axis after axis."""
    weights = []
    for place, size in zip(grid, shape, strict=True):
        at = (np.arange(size) - place.start) / place.step
        weights.append(_spline_weights(np.clip(at, 0, place.size - 1), place.size))
    return _along(small, weights)


def _spline_weights(at: np.ndarray, size: int) -> Float32[np.ndarray, "n k"]:
    """Gives the weights of `size` samples on the cubic spline through them."""
    if size == 1:
        return np.ones((at.size, 1), np.float32)
    columns = [
        ndimage.map_coordinates(unit, at[None], order=min(3, size - 1), mode="nearest")
        for unit in np.eye(size)
    ]
    return np.stack(columns, axis=1).astype(np.float32)
