"""The series that a segmentation is of: its headers, checked, and its exact grid.

A segmentation and a report belong to the patient and the study of their source: all
that says whose they are is taken over as it stands there, and nothing is made up.
"""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Shaped

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.dicom import find_series, is_dicom
from brainjax.volume.dicom_elements import number, quietly, read_data, text_of
from brainjax.volume.dicom_groups import height
from brainjax.volume.dicom_index import Series
from brainjax.volume.dicom_stack import Places, affine_of, find_places, shear_degrees

MAX_SHEAR_DEGREES = 0.1
SAME_MM = 1e-3
"""Corners of two grids that are one lie so near to each other."""

_EVEN_MM = 0.02
_SAME_DIRECTION = 1e-4
_SAME_PLACE_MM = 0.01
_EMPTY_IF_ABSENT = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
"""Type 2 of the standard: an object may have them empty, and may not lack them."""
_PATIENT = _EMPTY_IF_ABSENT[:4]


class Source(NamedTuple):
    """A DICOM series that can be referred to, without its pixels.

    Attributes:
      name: as the caller gave it.
      headers: of each file in the order of slices, or of the one multi-frame file;
        what they say of spacing and of the patient's sex made fit to be referred to.
      patient: elements of the patient as the first file has them.
      frames: of a multi-frame file, which of its frames each slice is; () otherwise.
      affine: [column, row, slice] to mm, RAS.
      shape: columns, rows, slices.
    """

    name: str
    headers: tuple[Any, ...]
    patient: tuple[Any, ...]
    frames: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]
    shape: tuple[int, int, int]


def highdicom_package() -> Any:
    """Gives the package; MissingExtraError where it is absent."""
    try:
        import highdicom
        import highdicom.coding_schemes
        import highdicom.seg
        import highdicom.sr
    except ImportError:
        raise MissingExtraError("highdicom", "segmentation") from None
    return highdicom


def read_source(name: str | Path) -> Source:
    """Gives the headers and the grid of a series, by a name that `find_series` takes.

    Raises:
      InputRefusedError: one line that names the series: not DICOM, sheared, uneven,
        with missing or doubled slices, or without what every segmentation refers to.
      MissingExtraError: pydicom is not installed.
    """
    if not is_dicom(name):
        raise InputRefusedError(
            f"{name}: wanted a DICOM series to refer to, got another file; name the "
            "series, such as --source SERIES_DIR"
        )
    series = find_series(name)
    places = _find_exact(name, series)
    rows, columns, *_ = series.grid
    with quietly():
        headers, frames = _read_headers(name, series)
        patient = tuple(copy.deepcopy(headers[0][keyword]) for keyword in _PATIENT)
        step = float(np.linalg.norm(places.step))
        for header in headers:
            _make_fit(header, headers[0], step)
    shape = (columns, rows, len(series.planes))
    affine = affine_of(series, places)
    return Source(str(name), headers, patient, frames, affine, shape)


def lay_on(
    source: Source,
    labels: Shaped[np.ndarray, "i j k *n"],
    affine: Float64[np.ndarray, "4 4"],
) -> Shaped[np.ndarray, "i j k *n"]:
    """Gives labels in the order of the source's [column, row, slice].

    Axes are permuted and flipped, never interpolated: the two grids must be one, in
    whichever of 48 orders. Raises InputRefusedError, naming both, where they are not.
    """
    turn = np.linalg.inv(source.affine[:3, :3]) @ affine[:3, :3]
    whole = np.round(turn)
    count = np.abs(whole)
    permutes = (count.sum(axis=0) == 1).all() and (count.sum(axis=1) == 1).all()
    if permutes:
        order = nib.io_orientation(_rigid(whole))
        turned = np.asarray(nib.apply_orientation(labels, order))
        back = affine @ nib.orientations.inv_ornt_aff(order, labels.shape[:3])
        if turned.shape[:3] == source.shape and _corners_meet(source, back):
            return np.ascontiguousarray(turned)
    raise InputRefusedError(
        f"{source.name}: wanted the grid of the labels, {_grid(labels.shape, affine)}, "
        f"got {_grid(source.shape, source.affine)}"
    )


def _rigid(turn: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    return matrix


def _corners_meet(source: Source, affine: np.ndarray) -> bool:
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in source.shape])).reshape(3, -1)
    corners = np.vstack([ends, np.ones(8)])
    away = (source.affine @ corners - affine @ corners)[:3]
    return bool(np.linalg.norm(away, axis=0).max() <= SAME_MM)


def _grid(shape: tuple[int, ...], affine: np.ndarray) -> str:
    spacing = np.round(np.linalg.norm(affine[:3, :3], axis=0), 4).tolist()
    letters = "".join(nib.aff2axcodes(affine))
    first = np.round(affine[:3, 3], 3).tolist()
    size = "x".join(map(str, shape[:3]))
    return f"{size} of {spacing} mm from {first} ({letters})"


def _find_exact(name: str | Path, series: Series) -> Places:
    """Gives where the slices lie; refuses what one even grid of them does not hold."""
    heights = [height(series.orientation, plane.position) for plane in series.planes]
    doubled = int((np.diff(heights) < _SAME_PLACE_MM).sum())
    if doubled:
        raise InputRefusedError(
            f"{name}: wanted one image at each place, got {doubled} more"
        )
    places = find_places(name, series, list(series.planes))
    missing = int(places.indices[-1]) + 1 - len(series.planes)
    if missing:
        raise InputRefusedError(
            f"{name}: wanted a series without gaps, got {missing} missing slices"
        )
    shear = shear_degrees(series, places)
    if shear > MAX_SHEAR_DEGREES:
        raise InputRefusedError(
            f"{name}: wanted slices that stand on one another, got a tilt of "
            f"{shear:g} degrees"
        )
    straight = places.first + places.indices[:, None] * places.step
    away = np.abs(np.array([p.position for p in series.planes]) - straight).max()
    if away > _EVEN_MM:
        raise InputRefusedError(
            f"{name}: wanted evenly spaced slices, got one {away:.3f} mm away"
        )
    return places


def _read_headers(
    name: str | Path, series: Series
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    files = [plane.file for plane in series.planes]
    headers = tuple(read_data(file, ()) for file in dict.fromkeys(files))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        if not all(text_of(header, keyword) for header in headers):
            raise InputRefusedError(f"{name}: wanted a {keyword}, got none")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        values = {text_of(header, keyword) for header in headers}
        if len(values) > 1:
            raise InputRefusedError(f"{name}: wanted one {keyword}, got {len(values)}")
    _check_directions(name, headers)
    for header in headers:
        for keyword in _EMPTY_IF_ABSENT:
            if keyword not in header:
                setattr(header, keyword, "")
    if "PerFrameFunctionalGroupsSequence" not in headers[0]:
        return headers, ()
    total = int(headers[0].NumberOfFrames)
    if len(headers) > 1 or total != len(files):
        raise InputRefusedError(
            f"{name}: wanted one multi-frame file of one volume, got {len(headers)} "
            f"files, of which {len(files)} of {total} frames"
        )
    return headers, tuple(plane.frame for plane in series.planes)


def _check_directions(name: str | Path, headers: tuple[Any, ...]) -> None:
    """Refuses planes whose directions differ by more than rounding does."""
    found = [number(header, "ImageOrientationPatient", 6) for header in headers]
    stated = np.array([value for value in found if value is not None])
    if len(stated) and np.ptp(stated, axis=0).max() > _SAME_DIRECTION:
        raise InputRefusedError(
            f"{name}: wanted slices of one direction, got cosines that differ by "
            f"{np.ptp(stated, axis=0).max():.2g}"
        )


def _make_fit(header: Any, first: Any, step: float) -> None:
    """Gives a header the geometry of the files' positions, and no odd patient's sex.

    Vendors differ in what they write as thickness and spacing of slices, and in whether
    a multi-frame file shares its direction; positions alone decide here too.
    """
    if text_of(header, "PatientSex").upper() not in ("M", "F", "O", ""):
        header.PatientSex = ""
    if not text_of(header, "PatientBirthDate").isdigit():
        header.PatientBirthDate = ""
    measures = header
    if "PerFrameFunctionalGroupsSequence" in header:
        _share(header)
        shared = header.SharedFunctionalGroupsSequence[0]
        measures = shared.PixelMeasuresSequence[0]
    else:
        header.ImageOrientationPatient = first.ImageOrientationPatient
    measures.SpacingBetweenSlices = round(step, 6)
    if not text_of(measures, "SliceThickness"):
        measures.SliceThickness = round(step, 6)


def _share(header: Any) -> None:
    """Shares a multi-frame file's direction and spacing, where frames repeat them."""
    shared = header.SharedFunctionalGroupsSequence[0]
    first = header.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword not in shared:
            setattr(shared, keyword, getattr(first, keyword))
            for group in header.PerFrameFunctionalGroupsSequence:
                if keyword in group:
                    delattr(group, keyword)
