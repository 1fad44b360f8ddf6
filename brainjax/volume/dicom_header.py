"""The header of one DICOM file: its planes, and the little else that is wanted.

Positions and directions are DICOM's (LPS mm) here; `dicom.py` turns them to RAS.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.volume.dicom_elements import has_preamble, number, one, read_data, text_of
from brainjax.volume.dicom_facts import age_of, code_of, facts_of, timing_of
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
"""All that is read of a header; what may go further, `facts_of` says."""

IMAGE_CLASSES = re.compile(
    r"1\.2\.840\.10008\.5\.1\.4\.1\.1\."
    r"(1(\..*)?|2(\.[12])?|4(\.[134])?|20|12\..*|6\.[12]|128(\.1)?|130)"
)
"""Radiographs, CT, MR, PET and so on: series that are named when left out."""

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


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


def read_header(path: str | Path) -> Header | None:
    """Gives the header of a DICOM file, or None of one that shows no image.

    None for DICOMDIR, reports, segmentations, presentation states, documents, raw data,
    and for captured screens without a place in the patient.

    Raises:
      InputRefusedError: the header cannot be read; names the file, quotes no value.
      MissingExtraError: pydicom is not installed.
    """
    try:
        data = read_data(path, TAGS)
    except InputRefusedError:
        if not has_preamble(path):  # looked like a data set, and is something else
            return None
        raise
    sop_class = text_of(data, "SOPClassUID")
    if not text_of(data, "SeriesInstanceUID") or not sop_class:
        stated = sop_class or text_of(data.file_meta, "MediaStorageSOPClassUID")
        if has_preamble(path) and (not stated or stated.startswith(MR_IMAGE)):
            raise InputRefusedError(f"{path}: wanted a DICOM header, got a damaged one")
        return None
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
        return (), f"wanted real grey values, got colour ({code_of(light)})"
    if light not in ("MONOCHROME1", "MONOCHROME2"):
        return (), f"wanted MONOCHROME1 or MONOCHROME2, got {code_of(light) or 'none'}"
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
    timing = timing_of(data)
    keywords = ("SeriesDescription", "ProtocolName", "SequenceName")
    return Header(
        file=path,
        series=text_of(data, "SeriesInstanceUID"),
        study=text_of(data, "StudyInstanceUID"),
        patient=text_of(data, "PatientID"),
        modality=code_of(modality),
        order=(text_of(data, "StudyDate"), one(data, "SeriesNumber") or 0.0),
        images=images,
        fault=fault,
        words="\n".join(text_of(data, keyword) for keyword in keywords),
        image_type=tuple(frame_type.split("\\")),
        timing=timing,
        body_part=text_of(data, "BodyPartExamined"),
        facts=facts_of(data, timing),
        age=age_of(data),
        sex={"M": "M", "F": "F"}.get(text_of(data, "PatientSex").upper()),
    )
