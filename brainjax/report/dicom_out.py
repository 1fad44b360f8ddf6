"""Answers in the formats of a hospital: a segmentation and a report of it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from brainjax import __version__
from brainjax.errors import InputRefusedError
from brainjax.evaluate.shape import Shape, shape_of
from brainjax.report.dicom_objects import Algorithm
from brainjax.report.dicom_seg import write_seg
from brainjax.report.dicom_source import lay_on, read_source
from brainjax.report.dicom_sr import write_sr

DICOM_FORMATS = ("dicomseg", "dicomsr")


def write_dicom(
    out_dir: str | Path,
    name: str,
    labels: UInt8[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k n"],
    affine: Float64[np.ndarray, "4 4"],
    class_names: Sequence[str],
    source: str | Path,
    formats: Sequence[str],
    facts: dict[str, Any],
    *,
    shapes: dict[str, Shape] | None = None,
    when: datetime | None = None,
    fresh: bool = False,
) -> list[Path]:
    """Writes `NAME_seg.dcm` and, where asked, `NAME_sr.dcm`; gives their paths.

    A report refers to a segmentation, so that "dicomsr" alone writes both.

    Args:
        out_dir: a folder; it is made where it is absent.
        name: of the files, without an ending.
        labels: of class n + 1 where `class_names[n]` is, or a mask for each; on the
            grid of the file that was segmented.
        affine: of that grid, indices to mm, RAS.
        class_names: of the classes.
        source: the DICOM series that the file is or was made from.
        formats: of DICOM_FORMATS.
        facts: of the answer; "algorithm" and "version" name what made it, the rest
            (hashes of recipe and checkpoint) is written as its parameters.
        shapes: of each class, where they are known already.
        when: date and time of the new objects; those of the series where None.
        fresh: identifiers of chance, so that a rerun is another object.

    Raises:
      InputRefusedError: one line: the series cannot be referred to, or lies on another
        grid than the labels.
      MissingExtraError: highdicom, pydicom or mirp is not installed.
    """
    unknown = [name for name in formats if name not in DICOM_FORMATS]
    if unknown or not formats:
        raise InputRefusedError(f"wanted formats of {DICOM_FORMATS}, got {formats}")
    series = read_source(source)
    laid = lay_on(series, labels, affine)
    algorithm = _algorithm(facts)
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    names = list(class_names)
    options = {"when": when, "fresh": fresh}
    if "dicomsr" in formats and shapes is None:
        shapes = _shapes(laid, series.affine, names)
    path = Path(out_dir) / f"{name}_seg.dcm"
    segmentation = write_seg(path, series, laid, names, algorithm, **options)
    written = [path]
    if "dicomsr" in formats:
        written.append(Path(out_dir) / f"{name}_sr.dcm")
        ordered = {name: (shapes or {})[name] for name in names}
        write_sr(written[-1], series, segmentation, ordered, algorithm, **options)
    return written


def _algorithm(facts: dict[str, Any]) -> Algorithm:
    rest = {key: str(value) for key, value in facts.items() if value is not None}
    name = rest.pop("algorithm", "brainjax segment")
    return Algorithm(name, rest.pop("version", __version__), rest)


def _shapes(
    labels: UInt8[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k n"],
    affine: Float64[np.ndarray, "4 4"],
    names: list[str],
) -> dict[str, Shape]:
    masks = labels.ndim == 4
    return {
        name: shape_of(labels[..., n] if masks else labels == n + 1, affine)
        for n, name in enumerate(names)
    }
