"""A DICOM series as one volume: its planes sorted, checked and stacked.

Names of scans are those of `dicom_index.Series`. Geometry is of ImagePositionPatient,
ImageOrientationPatient and PixelSpacing alone (DICOM PS3.3 C.7.6.2): the slice step is
the mean difference of the sorted positions, so that a tilted gantry gives a shear.
"""

import hashlib
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int, Shaped

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.dicom_header import (
    Plane,
    looks_like_dicom,
    quietly,
    read_data,
)
from brainjax.volume.dicom_index import (
    Series,
    height,
    index_files,
    index_folder,
)
from brainjax.volume.nifti import MAX_VOXELS, read_bytes

MIN_SLICES = 8
MAX_GAP = 2
MAX_FILLED = 0.1
"""At most so many missing slices in a row, and so many of all, are filled in."""

MAX_BYTES = 8 * MAX_VOXELS

_STEP_TOLERANCE = 0.05
_SAME_PLACE_MM = 0.01
_PIXEL_TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows"),
    *("Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_NAME = re.compile(r"(.*)::([0-9a-f]{8})")


class DicomVolume(NamedTuple):
    """A series in memory: values, RAS+ affine, the hash of its files, its facts.

    stored: [column, row, slice], slopes and intercepts applied; of the stored type
    where there are none, else float32. facts: of a closed list; none says who it is.
    """

    stored: Shaped[np.ndarray, "i j k"]
    affine: Float64[np.ndarray, "4 4"]
    sha256: str
    facts: dict


class Places(NamedTuple):
    """Where sorted planes lie: LPS mm of the first, the step, the index of each."""

    first: Float64[np.ndarray, "3"]
    step: Float64[np.ndarray, "3"]
    indices: Int[np.ndarray, "k"]


def is_dicom(path: str | Path) -> bool:
    """Tells whether a name stands for DICOM: a folder, `folder::hash`, a DICOM file."""
    path = Path(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return False
    named = _NAME.fullmatch(str(path))
    if named or path.is_dir():
        return not path.is_file() and Path(named[1] if named else path).is_dir()
    return path.is_file() and looks_like_dicom(path)


def read_series(name: str | Path) -> DicomVolume:
    """Gives the volume of a DICOM series.

    Args:
        name: a folder with one volume, `folder::hash`, or a multi-frame file.

    Copies of a slice are dropped and single missing slices filled linearly; both are
    counted in the facts, as `copies_dropped` and `slices_filled`.

    Raises:
      InputRefusedError: one line that names the file or folder: no MR, several volumes,
        colour, too few or unevenly spaced slices, a damaged file, two images in one
        place.
      MissingExtraError: pydicom, or what reads a compressed file, is not installed.
    """
    series = find_series(name)
    with quietly():
        pixels, hashes = _read_planes(series)
    planes, pixels, copies = _without_copies(name, series, pixels)
    places = _places(name, series, planes)
    stored = _stack(pixels, places)
    facts = {
        **series.hints,
        "shear_degrees": _shear(series, places),
        "copies_dropped": copies,
        "slices_filled": int(stored.shape[2]) - len(pixels),
        "damaged_files_beside": len(series.damaged),
    }
    return DicomVolume(stored, _affine(series, places), _joined(series, hashes), facts)


def digest_source(path: str | Path) -> str:
    """Gives the sha256 of a scan's content: of a NIfTI file or of a series' files.

    Names and the order of files do not count. Raises InputRefusedError.
    """
    if not is_dicom(path):
        return hashlib.sha256(read_bytes(Path(path))).hexdigest()
    series = find_series(path)
    return _joined(series, {file: _hash(_bytes(file)) for file in series.files})


def find_series(name: str | Path) -> Series:
    """Gives the series that a name stands for; refuses none, several and no MR."""
    named = _NAME.fullmatch(str(name))
    place = Path(named[1] if named else name)
    if place.is_file():
        found = list(index_files([place]).series)
    elif place.is_dir():
        found = index_folder(place)
    else:
        raise InputRefusedError(f"{name}: wanted a DICOM series, got no such folder")
    if named:
        chosen = [s for s in found if s.identity.startswith(named[2])]
    else:
        chosen = [s for s in found if s.left_out is None]
    if len(chosen) != 1:
        raise InputRefusedError(f"{name}: {_what_else(found, chosen)}")
    series = chosen[0]
    if series.hints["modality"] != "MR":
        raise InputRefusedError(f"{name}: wanted MR, got {series.hints['modality']}")
    if series.fault:
        raise InputRefusedError(series.fault)
    return series


def _what_else(found: list[Series], chosen: list[Series]) -> str:
    if chosen:
        names = ", ".join(series.name for series in chosen[:4])
        more = ", ..." if len(chosen) > 4 else ""
        return f"wanted one volume, got {len(chosen)}: {names}{more}"
    if found:
        reasons = sorted({series.left_out or "an MR scan" for series in found})
        return f"wanted an anatomical MR series, got {', '.join(reasons)}"
    return "wanted a DICOM series of MR, got no readable image"


def _bytes(file: str) -> bytes:
    try:
        size = Path(file).stat().st_size
        if size > MAX_BYTES:
            raise InputRefusedError(f"{file}: wanted a slice, got {size} bytes")
        return Path(file).read_bytes()
    except OSError as error:
        raise InputRefusedError(
            f"{file}: wanted a readable file, got {error.strerror}"
        ) from None


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _joined(series: Series, hashes: dict[str, str]) -> str:
    """Gives one hash of all: of files and, where they hold several volumes, frames."""
    frames: dict[str, list[int]] = {}
    for plane in series.planes:
        frames.setdefault(plane.file, []).append(plane.frame)
    lines = [f"{hashes[file]} {sorted(which)}" for file, which in frames.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _read_planes(series: Series) -> tuple[list[np.ndarray], dict[str, str]]:
    """Gives the scaled pixels of each plane, [column, row], and each file's hash."""
    if len(series.planes) < MIN_SLICES:
        raise InputRefusedError(
            f"{series.name}: wanted at least {MIN_SLICES} slices, got "
            f"{len(series.planes)}"
        )
    frames: dict[str, np.ndarray] = {}
    hashes: dict[str, str] = {}
    for file in series.files:
        raw = _bytes(file)
        hashes[file] = _hash(raw)
        frames[file] = _pixels(file, raw, series.grid[:2])
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for p in series.planes)
    planes = []
    for plane in series.planes:
        pixels = frames[plane.file][plane.frame].T
        planes.append(_scaled(pixels, plane) if scaled else pixels)
    return planes, hashes


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


def _without_copies(
    name: str | Path, series: Series, pixels: list[np.ndarray]
) -> tuple[list[Plane], list[np.ndarray], int]:
    """Drops planes that lie where another lies and show the same."""
    planes, kept, copies = [], [], 0
    for plane, values in zip(series.planes, pixels, strict=True):
        if planes and _distance(series, planes[-1], plane) < _SAME_PLACE_MM:
            if not np.array_equal(kept[-1], values):
                raise InputRefusedError(
                    f"{name}: wanted one image at a place, got two that differ: "
                    f"{planes[-1].file} and {plane.file}"
                )
            copies += 1
            continue
        planes.append(plane)
        kept.append(values)
    return planes, kept, copies


def _distance(series: Series, one: Plane, other: Plane) -> float:
    below = height(series.orientation, one.position)
    return abs(height(series.orientation, other.position) - below)


def _places(name: str | Path, series: Series, planes: list[Plane]) -> Places:
    """Gives the even grid that the planes lie on; refuses those that lie on none."""
    if len(planes) < MIN_SLICES:
        raise InputRefusedError(
            f"{name}: wanted at least {MIN_SLICES} slices, got {len(planes)}"
        )
    heights = np.array([height(series.orientation, p.position) for p in planes])
    steps = np.diff(heights)
    usual = float(np.median(steps))
    counts = np.maximum(np.round(steps / usual), 1).astype(int)
    uneven = np.abs(steps - counts * usual) > max(_STEP_TOLERANCE * usual, 0.02)
    if uneven.any():
        at = int(np.argmax(uneven))
        raise InputRefusedError(
            f"{name}: wanted slices {usual:.4g} mm apart, got {steps[at]:.4g} mm "
            f"between {heights[at]:.4g} and {heights[at + 1]:.4g} mm"
        )
    indices = np.concatenate([[0], np.cumsum(counts)])
    _check_gaps(name, series, counts, heights)
    positions = np.array([plane.position for plane in planes])
    step = (positions[-1] - positions[0]) / indices[-1]
    away = np.abs(positions - positions[0] - indices[:, None] * step).max()
    if away > max(_STEP_TOLERANCE * usual, 0.1):
        raise InputRefusedError(
            f"{name}: wanted slices along one line, got one {away:.2g} mm beside it"
        )
    return Places(positions[0], step, indices)


def _check_gaps(
    name: str | Path, series: Series, counts: np.ndarray, heights: np.ndarray
) -> None:
    missing = int((counts - 1).sum())
    if not missing:
        return
    if series.damaged:
        raise InputRefusedError(
            f"{series.damaged[0]}: wanted a readable slice of {name}, got a damaged "
            "file"
        )
    total = int(counts.sum()) + 1
    if counts.max() - 1 <= MAX_GAP and missing <= MAX_FILLED * total:
        return
    gaps = [
        f"{low:.4g} and {high:.4g}"
        for low, high, count in zip(heights, heights[1:], counts, strict=False)
        if count > 1
    ]
    shown = ", ".join(gaps[:3]) + (", ..." if len(gaps) > 3 else "")
    raise InputRefusedError(
        f"{name}: wanted {total} slices, got {total - missing}: missing between "
        f"{shown} mm"
    )


def _stack(pixels: list[np.ndarray], places: Places) -> Shaped[np.ndarray, "i j k"]:
    """Gives the planes as one array, missing ones filled linearly."""
    indices = places.indices.tolist()
    stored = np.empty((*pixels[0].shape, indices[-1] + 1), pixels[0].dtype, order="F")
    for index, plane in zip(indices, pixels, strict=True):
        stored[:, :, index] = plane
    for before, after in pairwise(indices):
        for index in range(before + 1, after):
            share = (index - before) / (after - before)
            low, high = (stored[:, :, i].astype(np.float64) for i in (before, after))
            filled = low + share * (high - low)
            whole = np.issubdtype(stored.dtype, np.integer)
            stored[:, :, index] = np.round(filled) if whole else filled
    return stored


def _affine(series: Series, places: Places) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of [column, row, slice] in RAS mm; DICOM's own axes are LPS."""
    _, _, between_rows, between_columns = series.grid
    affine = np.eye(4)
    across, down = np.reshape(series.orientation, (2, 3))
    affine[:3, 0] = across / np.linalg.norm(across) * between_columns
    affine[:3, 1] = down / np.linalg.norm(down) * between_rows
    affine[:3, 2], affine[:3, 3] = places.step, places.first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _shear(series: Series, places: Places) -> float:
    """Gives the angle between the slice step and the normal of the slices, degrees."""
    normal = np.cross(series.orientation[:3], series.orientation[3:])
    cosine = float(normal @ places.step) / float(np.linalg.norm(places.step))
    return round(float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))), 2)
