"""What a scanner does to an image: draw, then apply."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from brainjax.phantom.fields import Grid, spline, spline_shape

_BIAS_KNOT_MM = 70.0
_MAX_SLICE_MM = 6.5


class Scanner(NamedTuple):
    """One scan's settings: sd's are relative to the brightest tissue."""

    bias: np.ndarray
    blur_mm: float
    slice_axis: int
    slice_voxels: int
    gamma: float
    noise: float


def draw_scanner(rng: np.random.Generator, grid: Grid) -> Scanner:
    """Gives the settings of one scan."""
    shape = spline_shape(grid, _BIAS_KNOT_MM)
    bias = rng.uniform(0.0, 0.3) * rng.standard_normal(shape)
    thick = int(rng.integers(2, 4)) if rng.random() < 0.3 else 1
    return Scanner(
        bias=bias.astype(np.float32),
        blur_mm=float(rng.uniform(0.0, 0.45)) * grid.spacing,
        slice_axis=int(rng.integers(3)),
        slice_voxels=thick if thick * grid.spacing <= _MAX_SLICE_MM else 1,
        gamma=float(np.exp(0.15 * rng.standard_normal())),
        noise=float(rng.uniform(0.005, 0.04)),
    )


def scan_image(
    image: Float[np.ndarray, "x y z"],
    scanner: Scanner,
    grid: Grid,
    rng: np.random.Generator,
    mask: Bool[np.ndarray, "x y z"] | None = None,
) -> Float[np.ndarray, "x y z"]:
    """Gives what the scanner sees; with a mask, 0 outside it (stripped).

    S = thick(G_sigma * I), then |(S exp b)^gamma + n1 + i n2|: Rician noise.
    """
    sigma = scanner.blur_mm / grid.spacing
    seen = ndimage.gaussian_filter(image, sigma, truncate=3) if sigma > 0.1 else image
    seen = thick_slices(seen, scanner.slice_axis, scanner.slice_voxels)
    bias = spline(scanner.bias, grid, _BIAS_KNOT_MM)
    part = (slice(None), slice(None), slice(None)) if mask is None else mask
    values = seen[part] * np.exp(bias[part])
    values = np.power(np.clip(values, 0, None), np.float32(scanner.gamma))
    real, imaginary = (
        np.float32(scanner.noise) * rng.standard_normal(values.shape, np.float32)
        for _ in range(2)
    )
    out = np.zeros_like(image)
    out[part] = np.hypot(values + real, imaginary)
    return out


def thick_slices(
    image: Float[np.ndarray, "x y z"], axis: int, voxels: int
) -> Float[np.ndarray, "x y z"]:
    """Averages slabs of `voxels` slices along an axis, interpolates them back."""
    if voxels == 1:
        return image
    size = image.shape[axis]
    starts = np.arange(0, size, voxels)
    counts = np.diff([*starts, size])
    shape = [1, 1, 1]
    shape[axis] = -1
    slabs = np.add.reduceat(image, starts, axis=axis)
    slabs = slabs / counts.reshape(shape).astype(np.float32)
    centres = starts + (counts - 1) / 2
    at = np.interp(np.arange(size), centres, np.arange(len(starts)))
    low = np.minimum(at.astype(int), len(starts) - 2)
    share = (at - low).reshape(shape).astype(np.float32)
    return (
        np.take(slabs, low, axis) * (1 - share) + np.take(slabs, low + 1, axis) * share
    )
