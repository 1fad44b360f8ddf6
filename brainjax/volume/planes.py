"""Three planes of a scan with the outline of its brain mask, small enough to keep."""

import io
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage, sparse

from brainjax.errors import InputRefusedError
from brainjax.volume.space import GridAxis, axis_weights

PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
"""The planes in order, and the axis that each is looked at along."""

PIXELS = 128
PIXEL_MM = 1.6
WINDOW = (0.5, 99.5)
"""Percentiles inside the mask that become black and white."""


class Planes(NamedTuple):
    """Axial, coronal and sagittal plane, upright, the subject's left on the left.

    The sagittal plane has the back on the left. `outlines` is the mask's edge.
    """

    images: UInt8[np.ndarray, "planes h w"]
    outlines: Bool[np.ndarray, "planes h w"]


def make_planes(
    voxels: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple,
) -> Planes:
    """Gives three planes through the middle of the mask, 205 mm wide.

    Args:
      voxels: in RAS+, unmasked, so that the outline can be judged by the skull.
      mask: of the brain, on the same grid; the middle of an empty one is the image's.
      spacing: mm along the three axes.
    """
    centre = _middle(mask)
    inside = voxels[mask] if mask.any() else voxels.ravel()
    low, high = np.percentile(inside, WINDOW).tolist()
    images, outlines = [], []
    for _, axis in PLANES:
        across = [a for a in range(3) if a != axis]
        weights = [
            axis_weights(_pixels(centre[a], spacing[a]), voxels.shape[a])
            for a in across
        ]
        at = round(centre[axis])
        picture = _resampled(voxels.take(at, axis), *weights)
        scaled = (picture - low) / max(high - low, 1e-9)
        images.append(np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8))
        part = _resampled(mask.take(at, axis).astype(np.float32), *weights) > 0.5
        outlines.append(part & ~np.asarray(ndimage.binary_erosion(part), bool))
    return Planes(np.stack(images), np.stack(outlines))


def save_planes(path: Path, planes: Planes) -> None:
    """Writes planes as .npz, whole or not at all, the same bytes each time."""
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    half.write_bytes(encode_planes(planes))
    os.replace(half, path)


def load_planes(path: Path) -> Planes:
    """Reads what `save_planes` wrote.

    Raises:
      InputRefusedError: no such file, or no planes in it.
    """
    try:
        # NumPy leaves a damaged file open.
        data = io.BytesIO(Path(path).read_bytes())
        with np.load(data, allow_pickle=False) as stored:
            images, outlines = stored["images"], stored["outlines"]
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted planes, got {error.strerror or error}"
        ) from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputRefusedError(f"{path}: wanted planes, got {error}") from None
    found = images.dtype, outlines.dtype, images.shape == outlines.shape, images.ndim
    if found != (np.uint8, np.bool_, True, 3):
        raise InputRefusedError(
            f"{path}: wanted uint8 planes and outlines of one shape, got "
            f"{images.dtype} {images.shape} and {outlines.dtype} {outlines.shape}"
        )
    return Planes(images, outlines)


def encode_planes(planes: Planes) -> bytes:
    """Gives the bytes of an .npz file, without the time that NumPy's own would have."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, array in planes._asdict().items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, part.getvalue(), compresslevel=6)
    return data.getvalue()


def _pixels(centre: float, mm: float) -> GridAxis:
    step = PIXEL_MM / mm
    return GridAxis(centre - (PIXELS - 1) / 2 * step, step, PIXELS)


def _resampled(
    plane: Float32[np.ndarray, "a b"], rows: sparse.csr_array, columns: sparse.csr_array
) -> Float32[np.ndarray, "h w"]:
    """A plane on the picture's pixels; its second axis grows upwards, pictures down."""
    picture = (columns @ np.ascontiguousarray((rows @ plane).T)).astype(np.float32)
    return np.ascontiguousarray(picture[::-1])


def _middle(mask: Bool[np.ndarray, "x y z"]) -> list[float]:
    """The middle of the mask's box, in voxel indices."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    spans = boxes[0] if boxes else [slice(0, n) for n in mask.shape]
    return [(span.start + span.stop - 1) / 2 for span in spans]
