"""The one number a run of a study is judged by, and its bootstrap over subjects.

Numbers are judged by their mean absolute error, two classes by the AUC, more by the
balanced accuracy, survival by Harrell's C-index. Each is a function of a weight a case,
so that all resamples of the subjects are computed at once, and two runs on the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from brainjax.tasks import Classification, Survival, Task
from brainjax.tasks.labels import class_name

Weights = Float[np.ndarray, "r n"]
Statistic = Callable[[Weights], Float[np.ndarray, " r"]]

SCORES = ("mae", "auc", "balanced_accuracy", "c_index")
LOWER_IS_BETTER = ("mae",)


def score_name(task: Task) -> str:
    """Gives which of `SCORES` a fitted task is judged by."""
    if isinstance(task, Survival):
        return "c_index"
    if isinstance(task, Classification):
        return "auc" if len(task.classes) == 2 else "balanced_accuracy"
    return "mae"


def give_answers(task: Task, outputs: Float[np.ndarray, "n k"]) -> list[Any]:
    """Gives one answer a case, as the score wants it: JSON values.

    A number in its unit; the probability of the second of two classes; the name of one
    of several; the risk.
    """
    if score_name(task) == "balanced_accuracy":
        return list(task.decode(outputs))
    return [float(value) for value in np.asarray(task.score_higher(outputs))]


def give_truth(task: Task, values: Sequence[Any]) -> list[Any]:
    """Gives the true values of test cases beside their answers: JSON values."""
    name = score_name(task)
    if name == "c_index":
        return [[float(time), bool(event)] for time, event in values]
    if not isinstance(task, Classification):
        return [float(value) for value in values]
    names = [class_name(value, task.target) for value in values]
    if name == "auc":
        return [int(found == task.classes[1]) for found in names]
    return names


def make_statistic(
    name: str, truth: Sequence[Any], answers: Sequence[Any]
) -> Statistic:
    """Gives the score as a function of weights [r, n] -> [r]; NaN where undefined."""
    made = _STATISTICS[name](truth, answers)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        with np.errstate(all="ignore"):
            return made(np.asarray(weights, np.float64))

    return statistic


def score_of(name: str, truth: Sequence[Any], answers: Sequence[Any]) -> float:
    """Gives the score of all cases, each once."""
    return float(make_statistic(name, truth, answers)(np.ones((1, len(truth))))[0])


def _mae(truth, answers) -> Statistic:
    error = np.abs(np.asarray(answers, np.float64) - np.asarray(truth, np.float64))
    return lambda weights: weights @ error / weights.sum(1)


def _auc(truth, answers) -> Statistic:
    positive = np.asarray(truth, bool)
    scores = np.asarray(answers, np.float64)
    above = _ranks_above(scores[positive][:, None], scores[~positive][None])

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        ours, theirs = weights[:, positive], weights[:, ~positive]
        won = ((ours @ above) * theirs).sum(1)
        return won / (ours.sum(1) * theirs.sum(1))

    return statistic


def _balanced_accuracy(truth, answers) -> Statistic:
    truth, answers = np.asarray(truth, object), np.asarray(answers, object)
    members = np.stack([truth == name for name in sorted(set(truth))], 1)
    right = members & (truth == answers)[:, None]

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        present = weights @ members
        recall = np.where(present > 0, weights @ right / present, 0.0)
        return recall.sum(1) / (present > 0).sum(1)

    return statistic


def _c_index(truth, answers) -> Statistic:
    times = np.array([time for time, _ in truth], np.float64)
    events = np.array([event for _, event in truth], bool)
    risks = np.asarray(answers, np.float64)
    # Of two, who went first must be known: an event before the other's time, or at the
    # time at which the other was still well when he was last seen.
    first = times[:, None] < times
    first |= (times[:, None] == times) & ~events
    comparable = (first & events[:, None]).astype(np.float64)
    agreeing = comparable * _ranks_above(risks[:, None], risks[None])

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        pairs = ((weights @ comparable) * weights).sum(1)
        return ((weights @ agreeing) * weights).sum(1) / pairs

    return statistic


def _ranks_above(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """1 where a score is above another, one half where they are equal."""
    return (ours > theirs) + 0.5 * (ours == theirs)


_STATISTICS = {
    "mae": _mae,
    "auc": _auc,
    "balanced_accuracy": _balanced_accuracy,
    "c_index": _c_index,
}
