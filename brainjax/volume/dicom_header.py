"""The header of one DICOM file: its planes, and the little else that is wanted.

Positions and directions are DICOM's (LPS mm) here; `dicom.py` turns them to RAS.
"""

import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.dicom_sequence import Timing
from brainjax.volume.nifti import MAX_VOXELS

TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"),
    *("PatientID", "PatientAge", "PatientBirthDate", "PatientSex", "StudyDate"),
    *("AcquisitionDate", "SeriesNumber", "SeriesDescription", "ProtocolName"),
    *("SequenceName", "PulseSequenceName", "BodyPartExamined", "ImageType"),
    *("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength"),
    *("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "SliceThickness"),
    *("MRAcquisitionType", "ScanningSequence", "ContrastBolusAgent", "EchoNumbers"),
    *("ContrastBolusAgentSequence", "TemporalPositionIdentifier", "AcquisitionNumber"),
    *("TriggerTime", "DiffusionBValue", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"),
    *("RescaleIntercept", "PerFrameFunctionalGroupsSequence"),
    *("SharedFunctionalGroupsSequence", "VolumetricProperties"),
)
"""All that is read of a header; what may go further, `_facts` says."""

IMAGE_CLASSES = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\."
    r"(1(\..*)?|2(\.[12])?|4(\.[134])?|20|12\..*|6\.[12]|128(\.1)?|130)"
)
"""Radiographs, CT, MR, PET and so on: series that are named when left out."""

DICOMDIR = "1.2.840.10008.1.3.10"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"

MAKERS = ("SIEMENS", "GE", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "UIH", "FONAR")
"""Manufacturers, by the first word of the header's; any other is "other"."""

_LOCK = threading.RLock()


class Plane(NamedTuple):
    """One slice: its file, its frame in it, and where its first voxel's centre is."""

    file: str
    frame: int
    position: tuple[float, float, float]
    slope: float
    intercept: float


class Image(NamedTuple):
    """A plane and what tells the volumes of one series apart.

    grid: rows, columns, spacing between rows, between columns, in mm. orientation: the
    directions of growing column and of growing row. kind: always tells them apart;
    repeats: only where two planes would lie in one place.
    """

    plane: Plane
    grid: tuple[int, int, float, float]
    orientation: tuple[float, ...]
    kind: tuple
    repeats: tuple


class Header(NamedTuple):
    """One file: what `dicom_index.py` needs and no more; never written anywhere.

    fault: why no volume can be made of it, as the end of a line; None if it can.
    """

    file: str
    series: str
    study: str
    patient: str
    modality: str
    order: tuple
    images: tuple[Image, ...]
    fault: str | None
    words: str
    image_type: tuple[str, ...]
    timing: Timing
    body_part: str
    facts: dict
    age: int | None
    sex: str | None


def looks_like_dicom(path: str | Path) -> bool:
    """Tells DICOM by the first bytes: "DICM" at 128, or a data set without preamble."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    # Group 0002 or 0008, its element small, then a length or a value representation.
    return (
        len(start) == 132
        and start[:1] in (b"\x02", b"\x08")
        and start[1:4]
        in (
            *(b"\x00\x00\x00", b"\x00\x01\x00", b"\x00\x05\x00", b"\x00\x08\x00"),
            *(b"\x00\x12\x00", b"\x00\x16\x00"),
        )
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps pydicom's warnings in: they quote header values, names among them."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("pydicom")
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before


def read_header(path: str | Path) -> Header | None:
    """Gives the header of a DICOM file, or None of one that shows no image.

    None for DICOMDIR, reports, segmentations, presentation states, documents, raw data,
    and for captured screens without a place in the patient.

    Raises:
      InputRefusedError: the header cannot be read; names the file, quotes no value.
      MissingExtraError: pydicom is not installed.
    """
    data = read_data(path, TAGS)
    sop_class = text_of(data, "SOPClassUID")
    if not text_of(data, "SeriesInstanceUID") or not sop_class:
        if text_of(data.file_meta, "MediaStorageSOPClassUID") in ("", DICOMDIR):
            return None
        raise InputRefusedError(f"{path}: wanted a DICOM header, got a damaged one")
    modality = text_of(data, "Modality").upper()
    secondary = sop_class.startswith(SECONDARY)
    if not secondary and not IMAGE_CLASSES.fullmatch(sop_class):
        return None
    if secondary and number(data, "ImagePositionPatient", 3) is None:
        return None
    images, fault = (), None
    if modality == "MR":
        images, fault = _images(str(path), data)
    return _header(str(path), data, modality, images, fault)


def read_data(path: str | Path, tags: tuple[str, ...], source: Any = None) -> Any:
    """Gives the named elements of a DICOM file (or of its bytes, in `source`)."""
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError("pydicom", "scanner") from None
    try:
        if source is None and _is_deflated(path):
            raise InputRefusedError(
                f"{path}: wanted a transfer syntax of images, got a deflated data set"
            )
        target = str(path) if source is None else source
        pixels = "PixelData" in tags
        return pydicom.dcmread(
            target, force=True, stop_before_pixels=not pixels, specific_tags=list(tags)
        )
    except InputRefusedError:
        raise
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a readable file, got {error.strerror or 'an early end'}"
        ) from None
    except Exception as error:  # what pydicom meets in a damaged header is open-ended
        raise InputRefusedError(
            f"{path}: wanted a DICOM header, got a damaged one ({type(error).__name__})"
        ) from None


def _is_deflated(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return b"1.2.840.10008.1.2.1.99" in file.read(2048)


def text_of(data: Any, keyword: str) -> str:
    """Gives an element as text, its values joined by a backslash; "" if absent."""
    try:
        value = data.get(keyword)
    except Exception:  # a value that its representation does not allow
        return ""
    if value is None or isinstance(value, bytes):
        return ""
    many = not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if many else str(value).strip()


def number(data: Any, keyword: str, count: int = 1) -> tuple[float, ...] | None:
    """Gives an element as that many finite numbers; None if it is not."""
    try:
        value = data.get(keyword)
        values = value if count > 1 else (value,)
        found = tuple(float(v) for v in values)
    except Exception:  # absent, empty or no number
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def one(data: Any, keyword: str) -> float | None:
    """Gives an element as one finite number; None if it is not."""
    found = number(data, keyword)
    return found[0] if found else None


def _images(path: str, data: Any) -> tuple[tuple[Image, ...], str | None]:
    rows, columns = one(data, "Rows"), one(data, "Columns")
    frames = one(data, "NumberOfFrames") or 1.0
    if not rows or not columns:
        return (), "wanted rows and columns, got none"
    if rows * columns * frames > MAX_VOXELS or frames < 1:
        size = f"{rows:g}x{columns:g}x{frames:g}"
        return (), f"wanted at most {MAX_VOXELS} voxels, got {size}"
    light = text_of(data, "PhotometricInterpretation")
    if (one(data, "SamplesPerPixel") or 1) != 1:
        return (), f"wanted real grey values, got colour ({_code(light)})"
    if light not in ("MONOCHROME1", "MONOCHROME2"):
        return (), f"wanted MONOCHROME1 or MONOCHROME2, got {_code(light) or 'none'}"
    groups = data.get("PerFrameFunctionalGroupsSequence") or ()
    if frames > 1 and len(groups) != frames:
        return (), f"wanted a place for each of {frames:g} frames, got {len(groups)}"
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    images = []
    for frame in range(int(frames)):
        places = (groups[frame] if groups else None, shared)
        image = _image(path, frame, data, places, (int(rows), int(columns)))
        if isinstance(image, str):
            return (), image
        images.append(image)
    return tuple(images), None


def _image(
    path: str, frame: int, data: Any, places: tuple, shape: tuple[int, int]
) -> Image | str:
    """Gives one plane; or what it wants, as the end of a line."""

    def part(sequence: str) -> Any:
        items = (place.get(sequence) for place in places if place is not None)
        return next((item[0] for item in items if item), data)

    wanted = {
        "ImagePositionPatient": (part("PlanePositionSequence"), 3),
        "ImageOrientationPatient": (part("PlaneOrientationSequence"), 6),
        "PixelSpacing": (part("PixelMeasuresSequence"), 2),
    }
    found = {name: number(place, name, n) for name, (place, n) in wanted.items()}
    for name, values in found.items():
        if values is None or (name == "PixelSpacing" and min(values) <= 0):
            return f"wanted {wanted[name][1]} numbers in {name}, got none"
    across, down = np.reshape(found["ImageOrientationPatient"] or (), (2, 3))
    if np.abs([across @ across - 1, down @ down - 1, across @ down]).max() > 0.01:
        return "wanted two perpendicular directions of length 1, got others"
    values = part("PixelValueTransformationSequence")
    x, y, z = found["ImagePositionPatient"] or (0.0, 0.0, 0.0)
    slope, intercept = one(values, "RescaleSlope"), one(values, "RescaleIntercept")
    plane = Plane(path, frame, (x, y, z), slope or 1.0, intercept or 0.0)
    between_rows, between_columns = found["PixelSpacing"] or (1.0, 1.0)
    grid = (*shape, round(between_rows, 4), round(between_columns, 4))
    return Image(
        plane,
        grid,
        found["ImageOrientationPatient"] or (),
        _kind(data, part),
        _repeats(data, part),
    )


def _kind(data: Any, part: Any) -> tuple:
    echo = part("MREchoSequence")
    te = one(echo, "EffectiveEchoTime") or one(data, "EchoTime") or 0.0
    frame_type = text_of(part("MRImageFrameTypeSequence"), "FrameType")
    weight = one(part("MRDiffusionSequence"), "DiffusionBValue") or 0.0
    stack = text_of(part("FrameContentSequence"), "StackID")
    return (
        frame_type or text_of(data, "ImageType"),
        round(te, 1),
        round(weight),
        stack,
    )


def _repeats(data: Any, part: Any) -> tuple:
    content = part("FrameContentSequence")
    return (
        one(content, "TemporalPositionIndex")
        or one(data, "TemporalPositionIdentifier")
        or 0.0,
        one(content, "FrameAcquisitionNumber") or one(data, "AcquisitionNumber") or 0.0,
        one(data, "TriggerTime") or 0.0,
        one(part("MRModifierSequence"), "InversionTimes")
        or one(data, "InversionTime")
        or 0.0,
    )


def _header(
    path: str, data: Any, modality: str, images: tuple, fault: str | None
) -> Header:
    frame_type = images[0].kind[0] if images else text_of(data, "ImageType")
    timing = _timing(data)
    keywords = ("SeriesDescription", "ProtocolName", "SequenceName")
    return Header(
        file=path,
        series=text_of(data, "SeriesInstanceUID"),
        study=text_of(data, "StudyInstanceUID"),
        patient=text_of(data, "PatientID"),
        modality=_code(modality),
        order=(text_of(data, "StudyDate"), one(data, "SeriesNumber") or 0.0),
        images=images,
        fault=fault,
        words="\n".join(text_of(data, keyword) for keyword in keywords),
        image_type=tuple(frame_type.split("\\")),
        timing=timing,
        body_part=text_of(data, "BodyPartExamined"),
        facts=_facts(data, timing),
        age=_age(data),
        sex={"M": "M", "F": "F"}.get(text_of(data, "PatientSex").upper()),
    )


def _timing(data: Any) -> Timing:
    frame = (data.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]

    def first(sequence: str, keyword: str, plain: str) -> float | None:
        for place in (frame, shared):
            items = place.get(sequence) if place is not None else None
            value = one(items[0], keyword) if items else None
            if value is not None:
                return value
        return one(data, plain)

    times = "MRTimingAndRelatedParametersSequence"
    return Timing(
        first("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
        first(times, "RepetitionTime", "RepetitionTime"),
        first("MRModifierSequence", "InversionTimes", "InversionTime"),
        first(times, "FlipAngle", "FlipAngle"),
    )


def _facts(data: Any, timing: Timing) -> dict:
    """Gives what may go into a provenance: numbers, and words of a closed list."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    measures = shared.get("PixelMeasuresSequence") if shared is not None else None
    thickness = one(measures[0], "SliceThickness") if measures else None
    model = text_of(data, "ManufacturerModelName")
    known = re.fullmatch(r"[A-Za-z0-9 ._+/-]{1,32}", model)
    kind = text_of(data, "MRAcquisitionType").upper()
    facts = {
        "modality": _code(text_of(data, "Modality")),
        "manufacturer": _maker(text_of(data, "Manufacturer")),
        "model": model if known else None,
        "field_strength_t": one(data, "MagneticFieldStrength"),
        "te_ms": timing.te,
        "tr_ms": timing.tr,
        "ti_ms": timing.ti,
        "flip_degrees": timing.flip,
        "slice_thickness_mm": one(data, "SliceThickness") or thickness,
        "acquisition": kind if kind in ("2D", "3D") else None,
        "contrast": _has_contrast(data),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _code(value: str) -> str:
    """Gives a code string of the standard, or "" where something else stands."""
    return value if re.fullmatch(r"[A-Z0-9_ ]{1,16}", value) else ""


def _maker(value: str) -> str | None:
    words = re.split(r"[^A-Z]+", value.upper())
    if not any(words):
        return None
    return next((maker for maker in MAKERS if maker in words), "other")


def _has_contrast(data: Any) -> bool:
    agent = text_of(data, "ContrastBolusAgent").lower().strip(" .")
    said = agent not in ("", "0", "n", "no", "none", "n/a", "nein", "ohne", "without")
    return said or bool(data.get("ContrastBolusAgentSequence"))


def _age(data: Any) -> int | None:
    """Gives the age in whole years, of PatientAge ("034Y") or else of two dates."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text_of(data, "PatientAge").upper())
    if match:
        years = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[match[2]]
        return int(int(match[1]) / years)
    born = text_of(data, "PatientBirthDate")
    seen = text_of(data, "StudyDate") or text_of(data, "AcquisitionDate")
    if not all(re.fullmatch(r"\d{8}", date) for date in (born, seen)):
        return None
    years = (int(seen) - int(born)) // 10000
    return years if 0 <= years <= 120 else None
