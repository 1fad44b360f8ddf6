"""What fine-tuned runs show, in sentences that follow from paired differences."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from brainjax.evaluate.metrics import Metric, paired_difference
from brainjax.report.load import Run, number
from brainjax.train.folder import HOW, without

PRIMARY = ("mae", "balanced_accuracy", "accuracy", "auc", "c_index")
"""The first of these that a run has is the one its sentence is about."""

METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95, mm",
    "assd_mm": "surface distance, mm",
    "volume_error_ml": "volume error, ml",
    "volume_error_percent": "volume error, %",
    "volume_bias_ml": "volume bias, ml",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
    "auc": "AUC",
    "c_index": "C-index",
}
LOWER_IS_BETTER = ("mae", "rmse", "mse")
EXPECTED = ("init", "weights")
"""Config keys in which a pretrained run and its counterpart may differ."""


class Comparison(NamedTuple):
    """One run against a reference on the scans that both answered.

    Attributes:
      difference: error of `run` minus error of `reference`, in `unit`, paired by scan
        and with an interval over subjects; None where `reason` says why there is none.
      others: config keys, other than the start, in which the two differ.
      seen: subjects of the comparison that pretraining saw (without labels).
    """

    run: Run
    reference: Run
    difference: Metric | None
    reason: str
    others: list[str]
    seen: int

    @property
    def error(self) -> str:
        """What is compared, in words: "age error" or "sex error rate"."""
        rate = self.run.evaluation.get("task") == "classification"
        return f"{self.run.target} error{' rate' if rate else ''}"

    @property
    def unit(self) -> str:
        """Unit of the difference."""
        if self.run.evaluation.get("task") == "classification":
            return "percentage points"
        return self.run.unit


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Compares pretrained runs with those from scratch, target by target.

    Without a run from scratch, the first run of a target is the reference.
    """
    found = []
    tuned = [run for run in runs if run.kind == "finetune"]
    for target in dict.fromkeys(run.target for run in tuned):
        mine = [run for run in tuned if run.target == target]
        scratch = [run for run in mine if run.init == "scratch"]
        references = scratch if 0 < len(scratch) < len(mine) else mine[:1]
        others = [run for run in mine if run not in references]
        found += [compare(run, ref, runs) for run in others for ref in references]
    return found


def compare(run: Run, reference: Run, runs: Sequence[Run] = ()) -> Comparison:
    """Compares two runs on the scans that both answered; never fails."""
    # How a run is computed, on which devices say, is no other setting.
    ours, theirs = without(run.config, HOW), without(reference.config, HOW)
    differing = different_keys(ours, theirs)
    others = [key for key in differing if key.split(".")[0] not in EXPECTED]

    def refuse(reason: str) -> Comparison:
        return Comparison(run, reference, None, reason, others, 0)

    if "survival" in (run.evaluation.get("task"), reference.evaluation.get("task")):
        return refuse("a risk has no error of its own; a study pairs C-indices")
    for one in (run, reference):
        if one.predictions is None:
            return refuse(f"{one.name} has no predictions yet")
    paired = _pair(run, reference)
    if isinstance(paired, str):
        return refuse(paired)
    errors, other_errors, subjects = paired
    if len(set(subjects)) < 2:
        return refuse("the runs share fewer than two test subjects")
    difference = paired_difference(errors, other_errors, subjects)
    seen = len(pretraining_subjects(run, runs) & set(subjects))
    return Comparison(run, reference, difference, "", others, seen)


def _pair(run: Run, reference: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Errors of both on the scans they share, and the subjects; or why not."""
    ours, theirs = run.predictions, reference.predictions
    assert ours is not None
    assert theirs is not None
    if ours.targets.dtype.kind != theirs.targets.dtype.kind:
        return "one run answers with numbers, the other with classes"
    place = {source: i for i, source in enumerate(theirs.sources)}
    left = [i for i, source in enumerate(ours.sources) if source in place]
    right = [place[ours.sources[i]] for i in left]
    if np.any(ours.targets[left] != theirs.targets[right]):
        return "the runs were scored against different true values"
    subjects = [ours.subjects[i] or ours.sources[i] for i in left]
    return _errors(ours, left), _errors(theirs, right), np.array(subjects)


def _errors(answers: Any, rows: list[int]) -> np.ndarray:
    """Absolute error, or 100 for a wrong class (so that a mean is a percentage)."""
    targets, given = answers.targets[rows], answers.answers[rows]
    if targets.dtype.kind == "f":
        return np.abs(given - targets)
    return 100.0 * (given != targets)


def pretraining_subjects(run: Run, runs: Sequence[Run]) -> set[str]:
    """Subjects that the run's encoder was pretrained on, as far as the report knows."""
    for donor in runs:
        if donor.kind == "pretrain" and donor.name == run.init and donor.embeddings:
            kept = zip(donor.embeddings.subjects, donor.embeddings.parts, strict=True)
            return {subject for subject, part in kept if part == "train" and subject}
    return set()


def sentence(found: Comparison) -> str:
    """The verdict of one comparison, in one sentence; honest in both directions.

    A difference is claimed only where the whole interval lies on one side of 0.
    """
    against = found.reference.init == "scratch" and found.run.init != "scratch"
    who = "Pretraining" if against else f"{found.run.name}"
    than = "" if against else f" against {found.reference.name}"
    if found.difference is None:
        return f"{who}{than}: nothing to compare on {found.run.target}: {found.reason}."
    value, low, high, n = found.difference
    unit = f" {found.unit}" if found.unit else ""
    if not math.isfinite(value + low + high):
        return f"No difference could be shown: the {found.error} is not finite."
    if high < 0 or low > 0:
        verb = "lowered" if high < 0 else "raised"
        first, last = sorted((abs(low), abs(high)))
        return (
            f"{who} {verb} the {found.error} by {show(abs(value))}{unit}{than} "
            f"(95 % interval {show(first)} to {show(last)}; n = {n} subjects)."
        )
    who = "with pretraining" if against else f"with {who}"
    return (
        f"No difference could be shown: {who} the {found.error} was "
        f"{_signed(value, unit)}{than} (95 % interval from {_signed(low)} to "
        f"{_signed(high)}; n = {n} subjects)."
    )


def _signed(value: float, unit: str = "") -> str:
    if value == 0:
        return "the same"
    return f"{show(abs(value))}{unit} {'lower' if value < 0 else 'higher'}"


def show(value: Any) -> str:
    """A number for readers: two decimals, or three digits where it is small."""
    value = number(value)
    if not math.isfinite(value):
        return "not finite"
    if value == 0 or abs(value) >= 0.1:
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:.2g}"


def different_keys(one: Any, other: Any, key: str = "") -> list[str]:
    """Dotted names of every setting in which two configs differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [key]
    return [
        name
        for part in sorted({*one, *other})
        for name in different_keys(
            one.get(part), other.get(part), f"{key}.{part}" if key else part
        )
    ]


def primary_metric(run: Run) -> str | None:
    """Name of the metric a run is judged by, or None before it is evaluated."""
    metrics = run.evaluation.get("metrics") or {}
    return next((name for name in PRIMARY if name in metrics), None)


def baseline_sentence(run: Run) -> str:
    """How a run stands to the answer that looks at no scan; "" without evaluation."""
    name = primary_metric(run)
    baseline = run.evaluation.get("baseline") or {}
    reference = (baseline.get("metrics") or {}).get(name)
    if name is None or reference is None:
        return ""
    ours = as_metric(run.evaluation["metrics"][name])
    bar = as_metric(reference).value
    if name in LOWER_IS_BETTER:
        better, worse = ours.high < bar, ours.low > bar
    else:
        better, worse = ours.low > bar, ours.high < bar
    word = "better than" if better else "worse than" if worse else "not shown to beat"
    unit = f" {run.unit}" if run.unit and name in LOWER_IS_BETTER else ""
    return (
        f"{run.name}: {in_words(name)} {show(ours.value)}{unit} "
        f"(95 % interval {show(ours.low)} to {show(ours.high)}), {word} always "
        f"answering the {baseline.get('name', 'baseline')} ({show(bar)}{unit})."
    )


def in_words(metric: str) -> str:
    """Name of a metric as readers say it."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def as_metric(value: Any) -> Metric:
    """Reads a metric of evaluation.json; a bare number has no interval."""
    if isinstance(value, dict):
        middle, low, high = (number(value.get(k)) for k in ("value", "low", "high"))
        return Metric(middle, low, high, value.get("n") or 0)
    return Metric(number(value), math.nan, math.nan, 0)
