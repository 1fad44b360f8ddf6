"""NIfTI bytes that depend on the seed only: no time, no name, no thread count."""

import gzip
import os
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float

from brainjax.phantom.fields import Grid


class Storage(NamedTuple):
    """How a scan is kept: data type, stored value of the 99.9th percentile, slope."""

    dtype: str
    peak: float
    slope: float


class Placement(NamedTuple):
    """Stored axis order and flips (one of 48), and the scanner's own origin in mm."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    offset: tuple[float, float, float]


def draw_placement(rng: np.random.Generator) -> Placement:
    """Gives one of the 48 orientations and an origin that is not the template's."""
    a, b, c = (int(i) for i in rng.permutation(3))
    x, y, z = (bool(i) for i in rng.integers(0, 2, 3))
    i, j, k = (round(float(v), 2) for v in 8 * rng.standard_normal(3))
    return Placement((a, b, c), (x, y, z), (i, j, k))


def draw_storage(rng: np.random.Generator) -> Storage:
    """Gives int16 or uint8, a gain, and one time in three a scale factor."""
    small, peak = rng.random() < 0.25, float(rng.uniform(300, 3000))
    slope = float(np.float32(rng.uniform(0.05, 3.0))) if rng.random() < 0.33 else 1.0
    return Storage("uint8", 230.0, slope) if small else Storage("int16", peak, slope)


def quantise(
    image: Float[np.ndarray, "x y z"],
    storage: Storage,
    mask: Bool[np.ndarray, "x y z"] | None = None,
) -> np.ndarray:
    """Gives the stored integers; with a mask, at least 1 inside and 0 outside."""
    values = image if mask is None else image[mask]
    top = float(np.partition(values, k := int(0.999 * values.size), axis=None).flat[k])
    limit = np.iinfo(storage.dtype).max
    codes = np.rint(values * np.float32(storage.peak / top))
    codes = np.clip(codes, 0 if mask is None else 1, limit).astype(storage.dtype)
    if mask is None:
        return codes
    stored = np.zeros(image.shape, storage.dtype)
    stored[mask] = codes
    return stored


def encode(
    values: np.ndarray, grid: Grid, placement: Placement, slope: float = 1.0
) -> bytes:
    """Gives a `.nii.gz` of RAS+ values, stored in the placement's orientation."""
    affine = np.diag([grid.spacing] * 3 + [1.0])
    affine[:3, 3] = np.add(grid.origin, placement.offset)
    stored = np.transpose(values, placement.axes)
    turned = np.eye(4)
    turned[:3, :3] = affine[:3, :3][:, placement.axes]
    turned[:3, 3] = affine[:3, 3]
    for axis, flip in enumerate(placement.flips):
        if flip:
            turned[:3, 3] += turned[:3, axis] * (stored.shape[axis] - 1)
            turned[:3, axis] *= -1
            stored = np.flip(stored, axis)
    header = nib.Nifti1Header()
    header.set_data_dtype(values.dtype)
    header.set_data_shape(stored.shape)
    header.set_qform(turned, code=1)
    header.set_sform(turned, code=1)
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(slope, 0.0)
    header["vox_offset"] = 352
    body = header.binaryblock + bytes(4) + stored.tobytes(order="F")
    return gzip.compress(body, compresslevel=1, mtime=0)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    os.replace(part, path)
