"""Scans without what is round the brain, on the grids of their own files.

Stored values are copied, bit for bit; what is not brain becomes 0. Nothing is
resampled, and of a header only the extensions are left out.
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Shaped

from brainjax.errors import InputRefusedError
from brainjax.records.serving import describe_error
from brainjax.records.sources import find_sources
from brainjax.records.writing import make_folder, write_file
from brainjax.volume.brainmask import Brain, check_backend, find_brain
from brainjax.volume.dicom import is_dicom, read_series
from brainjax.volume.native import FileGrid, file_grid, to_file_grid
from brainjax.volume.nifti import read_nifti
from brainjax.volume.scan import read_scan

SINGLE = {348: b"n+1\0", 540: b"n+2\0"}
"""Magic of a single file, by the size of its header."""


class Stripped(NamedTuple):
    """A scan that was stripped: its name, its brain, and the files that say so."""

    name: str
    brain: Brain
    files: tuple[Path, Path]

    def __str__(self) -> str:
        """Gives one line: "out/NAME_brain.nii.gz: 1432.1 ml by own"."""
        doubts = "".join(f"; {doubt}" for doubt in self.brain.doubts)
        return f"{self.files[0]}: {self.brain.ml} ml by {self.brain.backend}{doubts}"


class _Stored(NamedTuple):
    """Values as a file or series has them, and what makes intensities of them."""

    values: Shaped[np.ndarray, "i j k"]
    slope: float
    intercept: float


def strip(
    scans: Iterable[str | Path],
    out: Path,
    *,
    backend: str = "auto",
    orientation: str | None = None,
    tell: Callable[[Stripped], None] = lambda stripped: None,
) -> list[tuple[str, str]]:
    """Writes NAME_brain.nii.gz and NAME_mask.nii.gz of scans, in their own geometry.

    Args:
        scans: files, DICOM series, folders and tables, as `find_sources` takes them.
        out: a folder.
        backend: of `brainmask.BACKENDS`, or "auto".
        orientation: of scans whose header states none, such as "RAS".
        tell: is called with each one as it is done.

    Gives path and reason of every scan that was refused. Raises InputRefusedError for
    a back end that is unknown or not installed, where there are no scans, and where
    the folder cannot be made.
    """
    check_backend(backend)
    paths = [source.path for source in find_sources(scans)]
    names = output_names(paths)
    make_folder(out)
    failures = []
    for path, name in zip(paths, names, strict=True):
        try:
            stripped = strip_scan(path, out, name, backend, orientation)
        except Exception as error:  # one odd file must not hold up the others
            failures.append((path, describe_error(error)))
        else:
            tell(stripped)
    return failures


def strip_scan(
    path: str, out: Path, name: str, backend: str, orientation: str | None
) -> Stripped:
    """Writes the brain and the mask of one scan."""
    scan = read_scan(path, orientation=orientation)
    brain = find_brain(scan.voxels, scan.affine, backend=backend)
    grid = file_grid(path, orientation=orientation)
    laid = to_file_grid(brain.mask.astype(np.uint8), scan.affine, np.eye(4), grid)
    mask = laid > 0.5
    files = (out / f"{name}_brain.nii.gz", out / f"{name}_mask.nii.gz")
    _write(files[0], _without(_read(path, mask.shape), mask), grid)
    _write(files[1], _Stored(mask.astype(np.uint8), 1.0, 0.0), grid)
    return Stripped(name, brain, files)


def output_names(paths: Sequence[str]) -> list[str]:
    """Gives each scan a name for its files, with its folder's where two are alike."""
    stems = [_stem(path) for path in paths]
    seen = Counter(stems)
    names = [
        stem if seen[stem] == 1 else "_".join([*_folders(path), stem])
        for path, stem in zip(paths, stems, strict=True)
    ]
    counts = Counter(names)
    for path, name in zip(paths, names, strict=True):
        if counts[name] > 1:
            raise InputRefusedError(f"{path}: wanted one scan {name}, got two")
    return names


def _stem(path: str) -> str:
    name = Path(path).absolute().name.replace("::", "_")
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _folders(path: str) -> list[str]:
    return [part for part in Path(path).absolute().parts[1:-1] if part != "anat"][-2:]


def _read(path: str, shape: tuple[int, ...]) -> _Stored:
    if is_dicom(path):
        return _Stored(read_series(path).stored, 1.0, 0.0)
    file = read_nifti(path)
    values = file.stored.reshape(shape, order="F")
    return _Stored(values, file.slope, file.intercept)


def _without(stored: _Stored, mask: Bool[np.ndarray, "i j k"]) -> _Stored:
    """Gives stored values that stand for 0 outside the mask.

    Where no stored value does, all become float32 intensities.
    """
    values, slope, intercept = stored
    nothing = -intercept / slope
    as_stored = np.asarray(nothing).astype(values.dtype)
    if float(as_stored) == nothing:
        return stored._replace(values=np.where(mask, values, as_stored))
    intensities = (values * slope + intercept).astype(np.float32)
    return _Stored(np.where(mask, intensities, np.float32(0)), 1.0, 0.0)


def _write(path: Path, stored: _Stored, grid: FileGrid) -> None:
    """Writes a NIfTI file with the header of the grid's; same input, same bytes.

    By its parts, for nibabel would scale the values anew.
    """
    header = _header(grid)
    header.set_data_dtype(stored.values.dtype)
    header.set_data_shape(stored.values.shape)
    header.set_slope_inter(stored.slope, stored.intercept)
    size = int(header["sizeof_hdr"])
    header["vox_offset"], header["magic"] = size + 4, SINGLE[size]
    order = header.endianness
    values = stored.values.astype(stored.values.dtype.newbyteorder(order))
    content = header.binaryblock + b"\0" * 4 + values.tobytes(order="F")
    write_file(path, gzip.compress(content, 6, mtime=0))


def _header(grid: FileGrid) -> nib.Nifti1Header:
    if grid.header is not None:
        return grid.header.copy()
    header = nib.Nifti1Header()
    header.set_sform(grid.affine, 1)
    header.set_qform(grid.affine, 1)
    header.set_xyzt_units("mm")
    return header
