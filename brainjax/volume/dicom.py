"""A DICOM series as one volume: its planes sorted, checked and stacked.

Names of scans are those of `dicom_index.Series`. Geometry is of ImagePositionPatient,
ImageOrientationPatient and PixelSpacing alone (DICOM PS3.3 C.7.6.2): the slice step is
the mean difference of the sorted positions, so that a tilted gantry gives a shear.
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from brainjax.errors import InputRefusedError
from brainjax.volume.dicom_elements import looks_like_dicom, quietly
from brainjax.volume.dicom_index import MIN_SLICES, Series, index_files, index_folder
from brainjax.volume.dicom_pixels import hash_of, joined_hash, read_file, read_planes
from brainjax.volume.dicom_stack import (
    affine_of,
    drop_copies,
    find_places,
    shear_degrees,
    stack,
)
from brainjax.volume.nifti import read_bytes

_NAME = re.compile(r"(.*)::([0-9a-f]{8,64})")

MOST_NAMES = 8
"""So many series are listed in a line."""


class DicomVolume(NamedTuple):
    """A series in memory: values, RAS+ affine, the hash of its files, its facts.

    stored: [column, row, slice], slopes and intercepts applied; of the stored type
    where there are none, else float32. facts: of a closed list; none says who it is.
    """

    stored: Shaped[np.ndarray, "i j k"]
    affine: Float64[np.ndarray, "4 4"]
    sha256: str
    facts: dict


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
        pixels, hashes = read_planes(series)
    planes, pixels, copies = drop_copies(name, series, pixels)
    places = find_places(name, series, planes)
    stored = stack(pixels, places)
    facts = {
        **series.hints,
        "shear_degrees": shear_degrees(series, places),
        "copies_dropped": copies,
        "slices_filled": int(stored.shape[2]) - len(pixels),
        "damaged_files_beside": len(series.damaged),
    }
    return DicomVolume(
        stored, affine_of(series, places), joined_hash(series, hashes), facts
    )


def digest_source(path: str | Path) -> str:
    """Gives the sha256 of a scan's content: of a NIfTI file or of a series' files.

    Names and the order of files do not count. Raises InputRefusedError.
    """
    if not is_dicom(path):
        return hashlib.sha256(read_bytes(Path(path))).hexdigest()
    series = find_series(path)
    return joined_hash(
        series, {file: hash_of(read_file(file)) for file in series.files}
    )


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
        raise InputRefusedError(f"{name}: {_what_else(found, chosen, bool(named))}")
    series = chosen[0]
    if series.hints["modality"] != "MR":
        raise InputRefusedError(f"{name}: wanted MR, got {series.hints['modality']}")
    if series.fault:
        raise InputRefusedError(series.fault)
    if len(series.planes) < MIN_SLICES:
        raise InputRefusedError(
            f"{name}: wanted at least {MIN_SLICES} slices, got {len(series.planes)}"
        )
    return series


def _what_else(found: list[Series], chosen: list[Series], named: bool) -> str:
    if chosen:
        return f"wanted one volume, got {len(chosen)}: {_list(chosen)}"
    if found and named:
        return f"wanted a series of this name, got {len(found)} others: {_list(found)}"
    if found:
        reasons = sorted({series.left_out or "an MR scan" for series in found})
        return f"wanted an anatomical MR series, got {', '.join(reasons)}"
    return "wanted a DICOM series of MR, got no readable image"


def _list(found: list[Series]) -> str:
    """Gives the first names, and what each is."""
    kinds = [s.left_out or s.sequence or "unknown sequence" for s in found]
    names = [f"{s.name} ({kind})" for s, kind in zip(found, kinds, strict=True)]
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
