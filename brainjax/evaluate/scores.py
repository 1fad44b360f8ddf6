"""Scores of a task's outputs, and of the answer that looks at no scan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from brainjax.evaluate import classification, metrics, survival
from brainjax.evaluate.calibration import ece
from brainjax.evaluate.guards import class_codes
from brainjax.evaluate.metrics import Metric
from brainjax.evaluate.quartiles import one_a_subject, top_against_bottom
from brainjax.evaluate.regression import bias_slope
from brainjax.tasks import Classification, Regression, Survival, Task
from brainjax.tasks.labels import number


def score(
    task: Task,
    outputs: Float[np.ndarray, "n k"],
    values: Sequence[Any],
    subjects: Sequence[Any],
) -> dict[str, Metric]:
    """Scores outputs on the scans that have a label.

    Args:
      task: fitted.
      outputs: of the network.
      values: labels as `task.values` gives them, None where there is none.
      subjects: of the scans; the intervals are over subjects.

    Returns:
      Of a regression mae, rmse (in units), r2, pearson, bias_slope; of a classification
      accuracy, balanced_accuracy, precision, recall, f1, auc, ece and, of two classes,
      auc_delong, the same area with DeLong's interval; of a survival task c_index
      (Harrell's), c_index_uno, the AUC at the times by which 25, 50 and 75 % of the
      events came, and hazard_ratio, of the highest risk quartile against the lowest,
      with Wald's interval. All other intervals are by bootstrap. A class that training
      never saw counts as wrong, and does not enter the auc. What is undefined is NaN;
      without labels all are, with n = 0.

    Raises:
      InputRefusedError: labels of another type than the task's.
    """
    rows = [i for i, value in enumerate(values) if value is not None]
    kept = np.asarray(outputs)[rows].reshape(-1, task.outputs)
    truth = [values[i] for i in rows]
    return SCORES[task.name](task, kept, truth, [subjects[i] for i in rows])


def score_baseline(
    task: Task, values: Sequence[Any], subjects: Sequence[Any]
) -> tuple[str, dict[str, Metric]]:
    """Scores the same answer for every scan; gives its name and the metrics.

    It is the training mean, or the most frequent class of training.
    """
    outputs = np.tile(task.constant, (len(values), 1))
    return task.constant_name, score(task, outputs, values, subjects)


def _regression(task: Regression, outputs, truth, subjects) -> dict[str, Metric]:
    truth = [number(value, task.target) for value in truth]
    answers = task.decode(outputs)
    names = ("mae", "rmse", "r2", "pearson")
    found = {name: getattr(metrics, name)(truth, answers, subjects) for name in names}
    return found | {"bias_slope": bias_slope(truth, answers, subjects)}


def _classification(
    task: Classification, outputs, truth, subjects
) -> dict[str, Metric]:
    codes, truth = class_codes(task, truth), task.names(truth)
    answers, probabilities = task.decode(outputs), task.probabilities(outputs)
    seen = np.flatnonzero(codes >= 0)
    whose = [subjects[i] for i in seen]
    found = {
        "accuracy": metrics.accuracy(truth, answers, subjects),
        "balanced_accuracy": metrics.balanced_accuracy(truth, answers, subjects),
    }
    for name in ("precision", "recall", "f1"):
        measure = getattr(classification, name)
        found[name] = measure(truth, answers, subjects, task.classes)
    found["auc"] = metrics.auc(
        [truth[i] for i in seen], probabilities[seen], whose, task.classes
    )
    if task.outputs == 2:
        scores = probabilities[seen, 1]
        found["auc_delong"] = classification.delong(codes[seen] == 1, scores, whose)
    return found | {"ece": ece(probabilities, codes, subjects)}


def _survival(task: Survival, outputs, truth, subjects) -> dict[str, Metric]:
    times = np.array([time for time, _ in truth], np.float64)
    events = np.array([came for _, came in truth], bool)
    risks = np.asarray(task.risk(outputs), np.float64)
    given = times, events, risks, subjects
    found = {
        "c_index": survival.harrell(*given),
        "c_index_uno": survival.uno(*given),
    }
    moments = survival.auc_times(times, events)
    for share, at in zip(survival.AUC_SHARES, moments, strict=True):
        found[f"auc_t{100 * share:.0f}"] = survival.time_auc(*given, at=at)
    ratio = top_against_bottom(one_a_subject(*given))
    people = found["c_index"].n
    return found | {"hazard_ratio": Metric(ratio.value, ratio.low, ratio.high, people)}


SCORES = {
    "regression": _regression,
    "classification": _classification,
    "survival": _survival,
}
"""Metrics of a task, by its name: (task, outputs, known labels, subjects)."""
