"""What a run left in its folder, read for a report; absent parts are named."""

import csv
import json
import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from brainjax.errors import InputRefusedError
from brainjax.train.folder import RunFolder, read_json

KINDS = ("pretrain", "finetune", "segment")
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, csv.Error)
Read = TypeVar("Read")


class Views(NamedTuple):
    """Pairs of augmented views, z-scored, 0 outside, and whose they are."""

    first: Float[np.ndarray, "k x y z"]
    second: Float[np.ndarray, "k x y z"]
    subjects: list[str]


class Embeddings(NamedTuple):
    """Features of scans, and per label one value (or None) a scan.

    `parts` says which scans were learnt from ("train"); all, where a run does not say.
    """

    features: Float[np.ndarray, "n d"]
    subjects: list[str]
    parts: list[str]
    labels: dict[str, list]


class Predictions(NamedTuple):
    """Answers on held-out scans; numbers for a regression, else names of classes."""

    sources: list[str]
    subjects: list[str]
    targets: np.ndarray
    answers: np.ndarray


class Run(NamedTuple):
    """One run folder. What is None or empty is told in `missing`, in words."""

    name: str
    path: Path
    kind: str
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    summary: dict[str, Any]
    views: Views | None
    embeddings: Embeddings | None
    evaluation: dict[str, Any]
    predictions: Predictions | None
    missing: list[str]

    @property
    def init(self) -> str:
        """Name of the run whose encoder this one started from, or "scratch"."""
        if "init" in self.summary:
            return str(self.summary["init"])
        source = str(self.config.get("init") or "")
        pretrained = self.config.get("weights", "pretrained") == "pretrained"
        return Path(source).name if source and pretrained else "scratch"

    @property
    def target(self) -> str:
        """What a run answers: a column, or its structures; empty for pretraining."""
        task = self.config.get("task") or {}
        return str(self.evaluation.get("target") or task.get("target") or "")

    @property
    def unit(self) -> str:
        """Unit of the target, "" where it has none."""
        return str(self.evaluation.get("unit") or "")


def load_run(path: Path) -> Run:
    """Reads a run folder; parts that are absent or damaged are left out and named.

    Raises:
      InputRefusedError: the folder is not a run.
    """
    folder = RunFolder(path)
    config = _config(folder)
    first = config["kind"] == "pretrain"
    parts = _Parts()
    going, evaluate = "the run has not ended", "run `brainjax evaluate`"
    # Frozen features may be probed on test subjects, but need not be.
    wanted = not first or folder.evaluation.exists()
    evaluation = parts.read(folder.evaluation, _json, evaluate) if wanted else None
    evaluation = evaluation or {}
    read_answers = partial(_answers, words=evaluation.get("task") == "classification")
    return Run(
        name=path.resolve().name,
        path=path,
        kind=config["kind"],
        config=config,
        metrics=parts.read(folder.metrics, read_metrics, "nothing logged yet") or [],
        summary=parts.read(folder.summary, _json, going) or {},
        views=parts.read(folder.views, _views, going) if first else None,
        embeddings=parts.read(folder.embeddings, _embeddings, going) if first else None,
        evaluation=evaluation,
        predictions=parts.read(folder.predictions, read_answers, evaluate)
        if config["kind"] == "finetune"
        else None,
        missing=parts.missing,
    )


def _config(folder: RunFolder) -> dict[str, Any]:
    if not folder.config.is_file():
        raise InputRefusedError(
            f"{folder.path}: wanted a run, got no config.json in it"
        )
    config = read_json(folder.config)
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind not in KINDS:
        raise InputRefusedError(
            f"{folder.config}: wanted kind = {' or '.join(KINDS)}, got {kind!r}"
        )
    return config


class _Parts:
    """Reads optional parts of a run and remembers, in words, what it could not."""

    def __init__(self):
        self.missing: list[str] = []

    def read(
        self, file: Path, read: Callable[[Path], Read], absent: str
    ) -> Read | None:
        if not file.exists():
            self.missing.append(f"{file.name} ({absent})")
            return None
        try:
            return read(file)
        except DAMAGED as error:
            reason = " ".join(str(error).split())
            self.missing.append(f"{file.name} (cannot be read: {reason})")
            return None


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Reads metrics.jsonl; what is not a number is NaN, a half-written line the end."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if isinstance(row, dict) and "step" in row:
            rows.append({str(name): number(value) for name, value in row.items()})
    return rows


def number(value: Any) -> float:
    """The value as a float; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def series(
    metrics: list[dict[str, float]], name: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Steps and values of one logged name; values may be NaN."""
    rows = [(row["step"], row[name]) for row in metrics if name in row]
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0], np.where(np.isfinite(table[:, 1]), table[:, 1], np.nan)


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"wanted a JSON object, got {type(value).__name__}")
    return value


def _views(path: Path) -> Views:
    with np.load(path) as file:
        first, second = (np.asarray(file[n], np.float32) for n in ("first", "second"))
        subjects = [str(name) for name in file["subjects"]]
    if first.ndim != 4 or first.shape != second.shape or len(first) != len(subjects):
        raise ValueError(
            f"wanted two equal [k, x, y, z] and k subjects, got {first.shape}, "
            f"{second.shape} and {len(subjects)}"
        )
    return Views(first, second, subjects)


def _embeddings(path: Path) -> Embeddings:
    with np.load(path) as file:
        features = np.asarray(file["features"], np.float64)
        subjects = [str(name) for name in file["subjects"]]
        parts = [str(p) for p in file["parts"]] if "parts" in file else []
        labels = json.loads(str(file["labels_json"]))
    parts = parts or ["train"] * len(subjects)
    lengths = {len(features), len(subjects), len(parts)}
    lengths |= {len(values) for values in labels.values()}
    if features.ndim != 2 or len(lengths) != 1:
        raise ValueError(
            f"wanted one row a scan throughout, got lengths {sorted(lengths)}"
        )
    return Embeddings(features, subjects, parts, labels)


def _answers(path: Path, *, words: bool) -> Predictions:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("it has no rows")
    columns = [
        [row[name] for row in rows]
        for name in ("source", "subject", "target", "prediction")
    ]
    kind: Any = np.str_ if words else np.float64
    targets, answers = (np.array(column, kind) for column in columns[2:])
    if not words and not np.isfinite([targets, answers]).all():
        raise ValueError("wanted finite targets and predictions, got some that are not")
    return Predictions(columns[0], columns[1], targets, answers)
