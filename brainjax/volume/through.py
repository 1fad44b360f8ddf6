"""One resampling through one composed transform, on grids of any affine.

Everything happens between voxel indices: output index -> output mm -> input mm ->
input index. So oblique and sheared affines need no care.
"""

import itertools
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from brainjax.errors import MissingExtraError
from brainjax.volume.space import Grid, GridAxis, grid_affine, resample

Order = Literal["linear", "nearest", "spline"]

EXACT = 1e-5
"""Indices this near to whole numbers are whole: a header's rounding is no shift."""

TIE = 1e-3
"""Voxels that labels are moved by, so that no last bit decides between two of them."""

MANY = 3.0
"""Source voxels a step from which the source is shrunken first, to save sub-samples."""


def resample_through(
    voxels: Shaped[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    matrix: Float64[np.ndarray, "4 4"],
    out_affine: Float64[np.ndarray, "4 4"],
    out_shape: tuple[int, int, int],
    *,
    order: Order = "linear",
    outside: float = 0.0,
) -> Float32[np.ndarray, "i j k"]:
    """Gives a volume on another grid, interpolated once.

    Args:
        voxels: the volume.
        affine: its voxel indices to its mm.
        matrix: output mm to the volume's mm, such as an Alignment's.
        out_affine: output voxel indices to output mm.
        out_shape: output voxels along its axes.
        order: "linear"; "nearest", for labels; "spline" (cubic), sharper and slow.
        outside: what lies over half a voxel beyond the volume's outermost centres.

    Where the output is coarser, each voxel is the mean of evenly spaced sub-samples
    within it, one a source voxel and axis, so that nothing folds over; labels are
    taken at the centre. Where the grids agree up to a whole shift the values are
    copied. Raises MissingExtraError where SimpleITK is absent.
    """
    pull = np.linalg.inv(affine) @ matrix @ out_affine
    shift = _whole_shift(pull, voxels.shape, out_shape)
    if shift is not None:
        return _copy(voxels, shift, out_shape, outside)
    counts = (1, 1, 1)
    if order == "nearest":
        pull[:3, 3] += TIE
    else:
        voxels, pull = _shrunken(voxels, pull, outside)
        counts = _sub_samples(pull)
    places = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    sampler = _Sampler(voxels, order, outside, out_shape)
    offsets = list(itertools.product(*places))
    out = sampler.sample(_moved(pull, offsets[0]))
    for offset in offsets[1:]:
        out += sampler.sample(_moved(pull, offset))
    return out / np.float32(len(offsets)) if len(offsets) > 1 else out


def _sub_samples(pull: Float64[np.ndarray, "4 4"]) -> tuple[int, ...]:
    """Sub-samples along each output axis: source voxels a step crosses, rounded."""
    crossed = np.linalg.norm(pull[:3, :3], axis=0)
    return tuple(int(n) for n in np.maximum(np.round(crossed), 1))


def _shrunken(
    voxels: np.ndarray, pull: np.ndarray, outside: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gives a source of about two voxels a step along the axes that have many more."""
    steps = np.linalg.norm(pull[:3, :3], axis=1)
    steps = np.where(steps >= MANY, steps / 2, 1.0)
    if (steps == 1).all():
        return voxels, pull
    axes = []
    for n, step in zip(voxels.shape, steps.tolist(), strict=True):
        size = int(np.ceil(n / step - 1e-6))
        axes.append(GridAxis((n - 1) / 2 - (size - 1) / 2 * step, step, size))
    grid = Grid(*axes)
    level = np.float32(outside)
    small = resample(voxels.astype(np.float32) - level, grid) + level
    return small, np.linalg.inv(grid_affine(np.eye(4), grid)) @ pull


def _moved(pull: np.ndarray, offset: tuple) -> Float64[np.ndarray, "4 4"]:
    moved = pull.copy()
    moved[:3, 3] += pull[:3, :3] @ np.array(offset)
    return moved


def _whole_shift(
    pull: np.ndarray, shape: tuple, out_shape: tuple
) -> tuple[int, int, int] | None:
    """Gives the shift in voxels between two grids that agree, else None."""
    shift = np.round(pull[:3, 3])
    most = max(*shape, *out_shape)
    turned = np.abs(pull[:3, :3] - np.eye(3)).max() * most > EXACT * 10
    if turned or np.abs(pull[:3, 3] - shift).max() > EXACT * 10:
        return None
    x, y, z = (int(n) for n in shift)
    return x, y, z


def _copy(
    voxels: np.ndarray, shift: tuple, out_shape: tuple, outside: float
) -> Float32[np.ndarray, "i j k"]:
    out = np.full(out_shape, outside, np.float32)
    source, target = [], []
    for start, size, n in zip(shift, out_shape, voxels.shape, strict=True):
        low, high = max(start, 0), min(start + size, n)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    out[tuple(target)] = voxels[tuple(source)]
    return out


class _Sampler:
    """Samples one volume on grids of one shape; SimpleITK on one thread."""

    def __init__(self, voxels: np.ndarray, order: Order, outside: float, shape: tuple):
        try:
            import SimpleITK
        except ImportError:
            raise MissingExtraError("SimpleITK", "scanner") from None
        self._itk = SimpleITK
        # SimpleITK takes the last array axis for its first: `pull` is turned instead.
        contiguous = np.ascontiguousarray(voxels, np.float32)
        self._image = SimpleITK.GetImageFromArray(contiguous)
        resampler = SimpleITK.ResampleImageFilter()
        resampler.SetNumberOfThreads(1)
        resampler.SetSize([int(n) for n in shape[::-1]])
        resampler.SetDefaultPixelValue(float(outside))
        kinds = {
            "linear": SimpleITK.sitkLinear,
            "nearest": SimpleITK.sitkNearestNeighbor,
            "spline": SimpleITK.sitkBSpline,
        }
        resampler.SetInterpolator(kinds[order])
        self._resampler = resampler

    def sample(self, pull: Float64[np.ndarray, "4 4"]) -> Float32[np.ndarray, "i j k"]:
        transform = self._itk.AffineTransform(3)
        transform.SetMatrix(pull[2::-1, 2::-1].ravel().tolist())
        transform.SetTranslation(pull[2::-1, 3].tolist())
        self._resampler.SetTransform(transform)
        image = self._resampler.Execute(self._image)
        return self._itk.GetArrayFromImage(image)
