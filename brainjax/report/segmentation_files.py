"""What a segmentation run answers, as files: NIfTI on the scan's own grid, CSV, DICOM.

Label maps lie over their scan voxel by voxel: same shape, affine and orientation.
"""

import gzip
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.infer.segment import Outlined, Segment
from brainjax.infer.table import Columns, write_table
from brainjax.records.serving import describe_error
from brainjax.records.writing import make_folder, write_file
from brainjax.volume.dicom import is_dicom
from brainjax.volume.native import FileGrid

FORMATS = ("nifti", "csv", "dicomseg", "dicomsr")
DICOM = ("dicomseg", "dicomsr")
TABLE = "volumes.csv"
NAMES = "labels.tsv"
GZIP = 4
"""Higher takes thrice as long for a tenth less."""

_GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
    "xyzt_units",
)
"""Fields of a header that say where voxels are; no other one is taken over."""

Failures = list[tuple[str, str]]


def check_formats(text: str) -> tuple[str, ...]:
    """Reads "nifti,csv"; refuses what is no format, and none."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words or ("",):
        if word not in FORMATS:
            raise InputRefusedError(
                f"--format: wanted some of {', '.join(FORMATS)}, got {word!r}"
            )
    return words


def write_answers(
    answers: Segment,
    out: Path,
    *,
    formats: Sequence[str] = ("nifti", "csv"),
    shape: bool = False,
    source: str | None = None,
) -> Failures:
    """Writes every answer, and one table of all; gives what could not be written.

    NAME is that of the scan's file. NAME_dseg.nii.gz has class numbers, which
    labels.tsv names; of structures that overlap NAME_STRUCTURE_mask.nii.gz each has
    one. NAME_STRUCTURE_probseg.nii.gz has probabilities, in steps of 1/255, where they
    were asked for. volumes.csv has a row a scan and structure.

    Args:
        answers: of a run.
        out: a folder; it is made if need be.
        formats: some of `FORMATS`.
        shape: whether the table has shape features, too; see `evaluate/shape.py`.
        source: a DICOM series on the grid of the scans, for DICOM formats where the
            scans are NIfTI files.

    What fails for a scan is listed, and the rest of it is written: its volume always
    is, with empty cells where its shape has no answer.

    Raises:
      InputRefusedError: the folder cannot be written, or DICOM formats without a
        series, or a series for several scans.
      MissingExtraError: a package that a format takes is not installed.
    """
    with_shapes = shape or "dicomsr" in formats
    _check_extras(formats, with_shapes)
    if set(formats) & set(DICOM):
        _check_source(answers, source)
    make_folder(out)
    facts = _facts(answers)
    rows: list[dict[str, Any]] = []
    failures: Failures = []
    if "nifti" in formats:
        write_file(out / NAMES, name_table(answers.names).encode())
    try:
        for answer in answers:
            reasons: list[str] = []
            if "nifti" in formats:
                _attempt(reasons, write_nifti, answer, out, facts=facts)
            shapes = _attempt(reasons, _shapes, answer) if with_shapes else None
            words = [w for w in formats if w in DICOM and (w != "dicomsr" or shapes)]
            if words:
                where = (out, words, source, facts, shapes)
                _attempt(reasons, _write_dicom, answer, *where)
            cells = (shapes or _no_shapes(answer)) if shape else None
            rows += volume_rows(answer, facts, cells)
            if reasons:
                failures.append((answer.source.path, "; ".join(dict.fromkeys(reasons))))
    finally:  # of what was done before an interruption, too
        if "csv" in formats and rows:
            write_table(_columns(rows), out / TABLE)
    return failures


def write_nifti(answer: Outlined, out: Path, *, facts: dict[str, str]) -> list[Path]:
    """Writes an answer's outlines, and probabilities if it has any; gives the files."""
    files: dict[str, Shaped[np.ndarray, "i j k"]] = {}
    if answer.labels.ndim == 3:
        files["dseg"] = answer.labels
    else:
        for number, name in enumerate(answer.names):
            files[f"{name}_mask"] = answer.mask(number).astype(np.uint8)
    for name, chances in zip(answer.names, answer.probabilities, strict=False):
        files[f"{name}_probseg"] = np.round(chances * 255).astype(np.uint8)
    paths = []
    for word, values in files.items():
        path = out / f"{answer.name}_{word}.nii.gz"
        slope = 1 / 255 if word.endswith("_probseg") else 1.0
        write_file(path, nifti_bytes(values, answer.grid, slope=slope, facts=facts))
        paths.append(path)
    return paths


def nifti_bytes(
    values: Shaped[np.ndarray, "i j k"],
    grid: FileGrid,
    *,
    slope: float = 1.0,
    facts: dict[str, str],
) -> bytes:
    """Gives a .nii.gz file of values on a file's grid; the same bytes each time.

    Where the file states no orientation but the caller did, the answer states it.
    """
    large = max(grid.shape) > 32767
    image = (nib.Nifti2Image if large else nib.Nifti1Image)(values, grid.affine)
    header: Any = image.header
    given: Any = grid.header
    if given is not None and np.allclose(given.get_best_affine(), grid.affine, 0, 1e-4):
        for field in _GEOMETRY:
            header[field] = given[field]
        header["pixdim"][:4] = given["pixdim"][:4]
    else:
        image.set_sform(grid.affine, 1)
        image.set_qform(None, 0)
        header.set_xyzt_units("mm")
    header["descrip"] = f"brainjax {facts['checkpoint']} {facts['recipe']}".encode()
    header.set_slope_inter(slope, 0.0)
    header["vox_offset"] = header.sizeof_hdr + 4
    plain = header.binaryblock + bytes(4) + values.tobytes(order="F")
    return gzip.compress(plain, GZIP, mtime=0)


def name_table(names: Sequence[str]) -> str:
    """Gives "index\\tname" of all classes, as BIDS has it."""
    lines = [f"{number}\t{name}" for number, name in enumerate(names, start=1)]
    return "\n".join(["index\tname", *lines]) + "\n"


def volume_rows(
    answer: Outlined, facts: dict[str, str], shapes: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Gives a row of the table for each structure: its volume, and shape if given."""
    scan = answer.source
    voxel = abs(float(np.linalg.det(answer.grid.affine[:3, :3]))) / 1000
    counts = _counts(answer)
    rows = []
    for number, name in enumerate(answer.names):
        row = {
            "source": "+".join(one.path for one in answer.scans),
            "subject": scan.subject or "",
            "session": scan.session or "",
            "sequence": "+".join(one.sequence or "" for one in answer.scans),
            **facts,
            "structure": name,
            "volume_ml": round(counts[number] * voxel, 6),
        }
        rows.append(row | (dict(shapes[name].features) if shapes else {}))
    return rows


def _counts(answer: Outlined) -> list[int]:
    if answer.labels.ndim == 4:
        return [int(n) for n in answer.labels.sum(axis=(0, 1, 2))]
    found = np.bincount(answer.labels.ravel(), minlength=len(answer.names) + 1)
    return [int(n) for n in found[1:]]


def _shapes(answer: Outlined) -> dict[str, Any]:
    """Gives the shape of every structure; none is defined where the grid shears."""
    from brainjax.evaluate.shape import shape_of

    return {
        name: shape_of(answer.mask(number), answer.grid.affine)
        for number, name in enumerate(answer.names)
    }


def _no_shapes(answer: Outlined) -> dict[str, Any]:
    """Gives empty cells for every structure, so that its volume has a row."""
    from brainjax.evaluate.shape import SHAPE_FEATURES, Shape

    empty = Shape(float("nan"), dict.fromkeys(SHAPE_FEATURES))
    return dict.fromkeys(answer.names, empty)


def _attempt(
    reasons: list[str], work: Callable[..., Any], *args: Any, **words: Any
) -> Any:
    """Gives what `work` gives; None where it fails, with the reason in `reasons`."""
    try:
        return work(*args, **words)
    except Exception as error:  # one odd scan must not lose the others' volumes
        reasons.append(describe_error(error))
    return None


def _columns(rows: Iterable[dict[str, Any]]) -> Columns:
    rows = list(rows)
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}


def _facts(answers: Segment) -> dict[str, str]:
    return {
        "recipe": answers.run.recipe.hash,
        "checkpoint": answers.run.checkpoint,
    }


def _write_dicom(
    answer: Outlined,
    out: Path,
    words: Sequence[str],
    source: str | None,
    facts: dict[str, str],
    shapes: dict[str, Any] | None,
) -> None:
    from brainjax.report.dicom_out import write_dicom

    write_dicom(
        out,
        answer.name,
        answer.labels,
        answer.grid.affine,
        answer.names,
        source or answer.source.path,
        words,
        facts,
        shapes=shapes,
    )


def _check_extras(formats: Sequence[str], with_shapes: bool) -> None:
    """Refuses what a missing package would, before anything is computed."""
    needed = {"mirp": with_shapes, "highdicom": bool(set(formats) & set(DICOM))}
    for package, is_needed in needed.items():
        if is_needed and find_spec(package) is None:
            raise MissingExtraError(package, "segmentation")


def _check_source(answers: Segment, source: str | None) -> None:
    """Refuses DICOM formats of what names no series, before anything is computed."""
    if source is not None and len(answers.cases) > 1:
        raise InputRefusedError(
            f"--source {source}: wanted one scan that it is the series of, got "
            f"{len(answers.cases)}"
        )
    files = [case[0].path for case in answers.cases if not is_dicom(case[0].path)]
    if source is None and files:
        raise InputRefusedError(
            f"{files[0]}: wanted a DICOM series for formats {' and '.join(DICOM)}, got "
            "a file; name its series: --source SERIES_DIR"
        )
