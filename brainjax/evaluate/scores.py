"""Scores of a task's outputs, and of the answer that looks at no scan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from brainjax.evaluate import metrics
from brainjax.evaluate.metrics import Metric
from brainjax.tasks import Classification, Regression, Task
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
      values: labels as the table has them, None where there is none.
      subjects: of the scans; the intervals are over subjects.

    Returns:
      Of a regression mae, rmse (in units), r2, pearson; of a classification accuracy,
      balanced_accuracy, auc. A class that training never saw counts as wrong, and does
      not enter the auc. Without labels all are NaN, with n = 0.

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
    return {name: getattr(metrics, name)(truth, answers, subjects) for name in names}


def _classification(
    task: Classification, outputs, truth, subjects
) -> dict[str, Metric]:
    truth = task.names(truth)
    answers = task.decode(outputs)
    seen = [i for i, name in enumerate(truth) if name in task.classes]
    return {
        "accuracy": metrics.accuracy(truth, answers, subjects),
        "balanced_accuracy": metrics.balanced_accuracy(truth, answers, subjects),
        "auc": metrics.auc(
            [truth[i] for i in seen],
            task.probabilities(outputs)[seen],
            [subjects[i] for i in seen],
            task.classes,
        ),
    }


SCORES = {"regression": _regression, "classification": _classification}
"""Metrics of a task, by its name: (task, outputs, known labels, subjects)."""
