"""The pixels of DICOM files: read once, hashed, decoded, scaled."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.dicom_elements import read_data
from brainjax.volume.dicom_header import Plane
from brainjax.volume.dicom_index import Series
from brainjax.volume.nifti import MAX_VOXELS

MAX_BYTES = 8 * MAX_VOXELS

_PIXEL_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows"),
    *("Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


def read_planes(series: Series) -> tuple[list[np.ndarray], dict[str, str]]:
    """Gives the scaled pixels of each plane, [column, row], and each file's hash."""
    frames: dict[str, np.ndarray] = {}
    hashes: dict[str, str] = {}
    for file in series.files:
        raw = read_file(file)
        hashes[file] = hash_of(raw)
        frames[file] = _pixels(file, raw, series.grid[:2])
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for p in series.planes)
    planes = []
    for plane in series.planes:
        pixels = frames[plane.file][plane.frame].T
        planes.append(_scaled(pixels, plane) if scaled else pixels)
    return planes, hashes


def read_file(file: str) -> bytes:
    """Gives the bytes of a file; refuses one that cannot be read or is too large."""
    try:
        size = Path(file).stat().st_size
        if size > MAX_BYTES:
            raise InputRefusedError(f"{file}: wanted a slice, got {size} bytes")
        return Path(file).read_bytes()
    except OSError as error:
        raise InputRefusedError(
            f"{file}: wanted a readable file, got {error.strerror}"
        ) from None


def hash_of(raw: bytes) -> str:
    """Gives the sha256 of bytes."""
    return hashlib.sha256(raw).hexdigest()


def joined_hash(series: Series, hashes: dict[str, str]) -> str:
    """Gives one hash of all: of files and, where they hold several volumes, frames."""
    frames: dict[str, list[int]] = {}
    for plane in series.planes:
        frames.setdefault(plane.file, []).append(plane.frame)
    lines = [f"{hashes[file]} {sorted(which)}" for file, which in frames.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _scaled(pixels: np.ndarray, plane: Plane) -> Float32[np.ndarray, "i j"]:
    return (pixels * np.float64(plane.slope) + plane.intercept).astype(np.float32)


def _pixels(file: str, raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Gives the decoded frames of one file, [frame, row, column]."""
    data = read_data(file, _PIXEL_TAGS, io.BytesIO(raw))
    _check_decoder(file, data)
    from pydicom.pixels.utils import pixel_array

    try:
        pixels = pixel_array(data)
    except Exception as error:  # whatever a decoder meets in damaged pixels
        raise InputRefusedError(
            f"{file}: wanted {shape[0]}x{shape[1]} pixels, got damaged or truncated "
            f"ones ({type(error).__name__})"
        ) from None
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    if pixels.shape[1:] != shape:
        raise InputRefusedError(
            f"{file}: wanted {shape[0]}x{shape[1]} pixels, got {pixels.shape[1:]}"
        )
    if data.PhotometricInterpretation == "MONOCHROME1":
        # White is 0 there: turned round within the range that the bits allow.
        top = 2 ** int(data.BitsStored) - 1 if data.PixelRepresentation == 0 else -1
        pixels = (top - pixels.astype(np.int64)).astype(pixels.dtype)
    return pixels


def _check_decoder(file: str, data: Any) -> None:
    """Refuses pixels that nothing here can decode, and says what would."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = data.file_meta.get("TransferSyntaxUID")
    if "PixelData" not in data:
        raise InputRefusedError(f"{file}: wanted pixels, got none")
    if syntax is None:  # no file header: little endian, as the standard's default is
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        return
    if not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise InputRefusedError(
            f"{file}: wanted a transfer syntax of images, got {syntax}"
        ) from None
    if not available:
        raise MissingExtraError(f"{file}: a decoder of {syntax.name}", "compressed")
