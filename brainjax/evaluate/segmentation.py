"""How well structures were outlined: overlap, surfaces and volumes, in mm and ml.

A row is one structure of one scan; what is reported of many is made of the rows alone,
so that a table of them is enough to compute every number again.

Where truth and answer are both empty there is nothing to agree on: every score is NaN,
but the volumes and their difference in ml. Where one of them is empty, Dice and IoU are
0, a distance to nothing is NaN, and the scan counts as `missed`, which is reported
beside the distances: they alone would not tell of it.
"""

import csv
import io
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy import ndimage
from scipy.spatial import KDTree

from brainjax.errors import InputRefusedError
from brainjax.evaluate.metrics import SAMPLES, Metric, Weights, measure
from brainjax.records.classes import UNKNOWN
from brainjax.records.writing import write_atomically

MEAN = "mean"
"""What stands for the mean over all structures of a scan, in a summary."""

PERCENTILE = 95.0

Labels = Integer[np.ndarray, "x y z"] | Bool[np.ndarray, "x y z n"]
"""Class numbers; or masks of n structures, which may overlap."""


class Scores(NamedTuple):
    """Of one structure of one scan.

    Attributes:
      dice: 2 |both| / (|truth| + |answer|).
      iou: |both| / |either|.
      hd95_mm: the larger of the two directions' 95th percentiles of the distance from
        a surface voxel of one to the nearest of the other.
      assd_mm: mean of these distances over the surface voxels of both.
      truth_ml, answer_ml: volumes.
      error_ml, error_percent: answer - truth, and its share of the truth.
      missed: 1 where exactly one of them is empty, else 0.
    """

    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    truth_ml: float
    answer_ml: float
    error_ml: float
    error_percent: float
    missed: float


class Row(NamedTuple):
    """The scores of one structure of one scan, and whose they are."""

    scan: str
    subject: str
    structure: str
    scores: Scores


SUMMARY = {
    "dice": lambda s: s.dice,
    "iou": lambda s: s.iou,
    "hd95_mm": lambda s: s.hd95_mm,
    "assd_mm": lambda s: s.assd_mm,
    "volume_error_ml": lambda s: abs(s.error_ml),
    "volume_error_percent": lambda s: abs(s.error_percent),
    "volume_bias_ml": lambda s: s.error_ml,
    "missed": lambda s: s.missed,
}
"""What is averaged over scans, by name. The errors are sizes, the bias has a sign."""


def score_scan(
    truth: Labels,
    answer: Labels,
    names: Sequence[str],
    affine: Float[np.ndarray, "4 4"],
    *,
    members: Bool[np.ndarray, "m n"] | None = None,
    unknown: int = UNKNOWN,
) -> dict[str, Scores]:
    """Gives the scores of every structure of one scan.

    Args:
      truth, answer: on one grid, each class numbers or masks.
      names: of the n structures.
      affine: voxel indices to mm; it may be oblique or sheared.
      members: which class numbers a structure is made of, where they are not its own
        alone: 1, 2... in the order of the names.
      unknown: class number of the truth that nobody knows; those voxels count as
        outside of everything.

    Raises:
      InputRefusedError: two grids, or class numbers beyond those known.
    """
    if truth.shape[:3] != answer.shape[:3]:
        raise InputRefusedError(
            f"score: wanted truth and answer on one grid, got {truth.shape[:3]} and "
            f"{answer.shape[:3]}"
        )
    if members is None:
        members = np.eye(len(names) + 1, dtype=bool)[:, 1:]
    known = None if truth.dtype == bool else truth != unknown
    scores = {}
    for number, name in enumerate(names):
        one, other = (
            structure_mask(labels, number, members, unknown=unknown)
            for labels in (truth, answer)
        )
        scores[name] = score_structure(
            one, other if known is None else other & known, affine
        )
    return scores


def structure_mask(
    labels: Labels,
    structure: int,
    members: Bool[np.ndarray, "m n"],
    *,
    unknown: int = UNKNOWN,
) -> Bool[np.ndarray, "x y z"]:
    """Gives where one structure is, by its place among the columns of `members`.

    Raises:
      InputRefusedError: a class number that `members` has no row for.
    """
    if labels.ndim == 4:
        return labels[..., structure].astype(bool)
    column = np.zeros(max(unknown + 1, len(members)), bool)
    column[: len(members)] = members[:, structure]
    column[unknown] = False
    low, high = int(labels.min()), int(np.where(labels == unknown, 0, labels).max())
    if low < 0 or high >= len(members):
        raise InputRefusedError(
            f"score: wanted class numbers of 0 to {len(members) - 1}, got {low} to "
            f"{high}"
        )
    return column[labels]


def score_structure(
    truth: Bool[np.ndarray, "x y z"],
    answer: Bool[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
) -> Scores:
    """Gives the scores of one structure, of masks on one grid."""
    voxel = abs(float(np.linalg.det(np.asarray(affine, np.float64)[:3, :3]))) / 1000
    t, a = int(truth.sum()), int(answer.sum())
    both = int((truth & answer).sum())
    found = {
        "dice": _share(2 * both, t + a),
        "iou": _share(both, t + a - both),
        "truth_ml": t * voxel,
        "answer_ml": a * voxel,
        "error_ml": (a - t) * voxel,
        "error_percent": 100 * _share(a - t, t),
        "missed": float((t > 0) != (a > 0)),
    }
    far = surface_distances(truth, answer, affine) if t and a else None
    if far is None:
        return Scores(hd95_mm=np.nan, assd_mm=np.nan, **found)
    hd95 = max(float(np.percentile(way, PERCENTILE)) for way in far)
    return Scores(hd95_mm=hd95, assd_mm=float(np.concatenate(far).mean()), **found)


def surface_distances(
    truth: Bool[np.ndarray, "x y z"],
    answer: Bool[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, " a"]]:
    """Gives how far truth's surface voxels are from the answer's, and the other way.

    In mm. A surface voxel has one of its six neighbours outside; beyond the image all
    is outside. Neither mask may be empty.
    """
    one, other = (_surface(mask, affine) for mask in (truth, answer))
    to_other, _ = KDTree(other).query(one)
    to_one, _ = KDTree(one).query(other)
    return np.asarray(to_other), np.asarray(to_one)


def _surface(
    mask: Bool[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "p 3"]:
    """Gives where the surface voxels lie, in mm."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    part = mask[box]
    inner = np.asarray(ndimage.binary_erosion(part), bool)
    indices = np.argwhere(part & ~inner)
    indices = indices + [side.start for side in box]
    affine = np.asarray(affine, np.float64)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def summarise(
    rows: Iterable[Row], *, samples: int = SAMPLES
) -> dict[str, dict[str, Metric]]:
    """Gives the means over scans, with intervals over subjects, by structure and name.

    The structure "mean" comes first: of every scan the mean over its structures that
    have a score. NaN is left out; n says how many subjects are left.
    """
    rows = list(rows)
    structures = list(dict.fromkeys(row.structure for row in rows))
    found = {MEAN: _summary(_over_structures(rows), samples)}
    for name in structures:
        own = [(r.subject or r.scan, _values(r.scores)) for r in rows]
        chosen = [one for one, r in zip(own, rows, strict=True) if r.structure == name]
        found[name] = _summary(chosen, samples)
    return found


def _values(scores: Scores) -> dict[str, float]:
    return {name: float(value(scores)) for name, value in SUMMARY.items()}


def _over_structures(rows: Sequence[Row]) -> list[tuple[str, dict[str, float]]]:
    scans: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in rows:
        scans.setdefault((row.scan, row.subject), []).append(_values(row.scores))
    return [
        (subject or scan, {name: _mean([v[name] for v in each]) for name in SUMMARY})
        for (scan, subject), each in scans.items()
    ]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _summary(
    given: Sequence[tuple[Hashable, dict[str, float]]], samples: int
) -> dict[str, Metric]:
    found = {}
    for name in SUMMARY:
        pairs = [(who, values[name]) for who, values in given]
        pairs = [(who, value) for who, value in pairs if not np.isnan(value)]
        numbers = np.array([value for _, value in pairs], np.float64)

        def statistic(weights: Weights, numbers=numbers) -> Float[np.ndarray, " r"]:
            return weights @ numbers / weights.sum(1)

        found[name] = measure(statistic, [who for who, _ in pairs], samples)
    return found


COLUMNS = ("scan", "subject", "structure", *Scores._fields)


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Writes rows as CSV, one structure of one scan a line; NaN as "nan".

    Numbers have all their digits: `summarise(read_rows(path))` gives what
    `summarise(rows)` does.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:3], *map(float, row.scores)) for row in rows)
    write_atomically(path, text.getvalue().encode())


def read_rows(path: Path) -> list[Row]:
    """Reads what `write_rows` wrote.

    Raises:
      InputRefusedError: no such file, or other columns.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text())))
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a table of scores, got {error.strerror}"
        ) from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise InputRefusedError(
            f"{path}: wanted columns {', '.join(COLUMNS)}, got "
            f"{', '.join(lines[0]) if lines else 'none'}"
        )
    return [
        Row(scan, subject, structure, Scores(*map(float, numbers)))
        for scan, subject, structure, *numbers in lines[1:]
    ]
