"""Metrics with 95 % intervals from a bootstrap over subjects, never over scans."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

SAMPLES = 1000
SEED = 0
CELLS = 2_000_000
"""Resamples times scans that are held in memory at a time."""

Subjects = Sequence[Any] | np.ndarray
Weights = Float[np.ndarray, "r n"]
Statistic = Callable[[Weights], Float[np.ndarray, " r"]]


class Metric(NamedTuple):
    """A number measured on a test set.

    Attributes:
      value: NaN where it is undefined.
      low, high: 95 % percentile interval; NaN with fewer than two subjects.
      n: subjects (not scans) it was measured on.
    """

    value: float
    low: float
    high: float
    n: int


def mae(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """Mean absolute error, in the label's unit."""
    error = np.abs(_numbers(answers) - _numbers(truth))
    return measure(lambda w: _mean(w, error), subjects, samples)


def rmse(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """Root of the mean squared error, in the label's unit."""
    error = np.square(_numbers(answers) - _numbers(truth))
    return measure(lambda w: np.sqrt(_mean(w, error)), subjects, samples)


def r2(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """1 - squared error / variance of the truth; undefined for a constant truth."""
    truth, answers = _numbers(truth), _numbers(answers)
    error = np.square(answers - truth)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        return 1 - _mean(weights, error) / covariance(weights, truth, truth)

    return measure(statistic, subjects, samples)


def pearson(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """Correlation; undefined where truth or answers are constant."""
    truth, answers = _numbers(truth), _numbers(answers)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        spread = covariance(weights, truth, truth)
        spread = spread * covariance(weights, answers, answers)
        found = covariance(weights, truth, answers) / np.sqrt(spread)
        return np.clip(found, -1, 1)

    return measure(statistic, subjects, samples)


def accuracy(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """Share of scans whose class is right."""
    truth, answers = _codes(truth, answers)
    right = (truth == answers).astype(np.float64)
    return measure(lambda w: _mean(w, right), subjects, samples)


def balanced_accuracy(truth, answers, subjects, *, samples: int = SAMPLES) -> Metric:
    """Mean recall of the classes that occur; undefined where only one does."""
    truth, answers = _codes(truth, answers)
    members = truth[:, None] == np.unique(truth)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        present = weights @ members
        recall = weights @ (members & (truth == answers)[:, None]) / present
        classes = (present > 0).sum(1)
        mean = np.where(present > 0, recall, 0).sum(1) / classes
        return np.where(classes > 1, mean, np.nan)

    return measure(statistic, subjects, samples)


def auc(
    truth, scores, subjects, classes: Sequence[Hashable], *, samples: int = SAMPLES
) -> Metric:
    """Area under the ROC curve; the mean of one class against the rest for several.

    Undefined where a class is missing from the truth or a score is not finite.

    Args:
      truth: classes of n scans, each one of `classes`.
      scores: [n, k] in the order of `classes`; or [n], of the second of two.
      subjects: of the scans.
      classes: all k of them.
    """
    scores = _numbers(scores)
    scores = scores if scores.ndim == 2 else scores[:, None]
    place = {name: i for i, name in enumerate(classes)}
    codes = np.array([place[name] for name in truth], np.int64)
    columns = range(len(classes)) if len(classes) > 2 else [1]
    rankings = [_Ranking(scores[:, c if scores.shape[1] > 1 else 0]) for c in columns]

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        areas = [
            ranking.area(weights, codes == c)
            for c, ranking in zip(columns, rankings, strict=True)
        ]
        return np.mean(areas, axis=0)

    if not np.isfinite(scores).all():
        return Metric(np.nan, np.nan, np.nan, len(np.unique(number_subjects(subjects))))
    return measure(statistic, subjects, samples)


def paired_difference(
    errors_a, errors_b, subjects, *, samples: int = SAMPLES
) -> Metric:
    """Mean of a - b over scans that both answered; below 0, a is the better."""
    difference = _numbers(errors_a) - _numbers(errors_b)
    return measure(lambda w: _mean(w, difference), subjects, samples)


def mean(values, subjects, *, samples: int = SAMPLES) -> Metric:
    """Mean over scans of any number, or share of those that are True."""
    numbers = _numbers(values)
    return measure(lambda w: _mean(w, numbers), subjects, samples)


class _Ranking:
    """Scans in the order of one score, equal scores in one block."""

    def __init__(self, scores: Float[np.ndarray, " n"]):
        self.order = np.argsort(scores, kind="stable")
        ordered = scores[self.order]
        changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        self.starts = np.concatenate([[0], changes]).astype(np.int64)

    def area(self, weights: Weights, positive: Shaped[np.ndarray, " n"]):
        """Chance that a positive scan ranks above a negative one; a tie is half."""
        weights, positive = weights[:, self.order], positive[self.order]
        above = np.add.reduceat(weights * positive, self.starts, axis=1)
        below = np.add.reduceat(weights * ~positive, self.starts, axis=1)
        pairs = above.sum(1) * below.sum(1)
        won = (above * (np.cumsum(below, axis=1) - below / 2)).sum(1)
        return won / np.where(pairs > 0, pairs, np.nan)


def measure(statistic: Statistic, subjects: Subjects, samples: int = SAMPLES) -> Metric:
    """The statistic of all scans, and of `samples` draws of whole subjects.

    A draw in which the statistic is undefined (a class is missing) is left out.

    Args:
      statistic: of weights [r, n], how often each scan was drawn, in each of r draws.
      subjects: of the n scans.
      samples: draws; none for the value alone.
    """
    groups = number_subjects(subjects)
    n = len(np.unique(groups))
    if not n:
        return Metric(np.nan, np.nan, np.nan, 0)
    with np.errstate(all="ignore"):
        value = float(statistic(np.ones((1, len(groups))))[0])
        if n < 2 or not samples or not np.isfinite(value):
            return Metric(value, np.nan, np.nan, n)
        drawn = _draws(statistic, groups, n, samples)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Metric(value, float(low), float(high), n)


def _draws(
    statistic: Statistic, groups: Int[np.ndarray, " n"], n: int, samples: int
) -> Float[np.ndarray, " r"]:
    generator = np.random.default_rng(SEED)
    found, rows = [], max(1, CELLS // len(groups))
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=size)
        found.append(statistic(counts[:, groups].astype(np.float64)))
    return np.concatenate(found)


def number_subjects(subjects: Subjects) -> Int[np.ndarray, " n"]:
    """Numbers from 0 for subjects; a scan without one (None, "") is its own."""
    seen: dict[Any, int] = {}
    names = list(subjects)
    keys = [(i,) if s is None or s == "" else s for i, s in enumerate(names)]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def _codes(truth, answers) -> tuple[np.ndarray, np.ndarray]:
    seen: dict[Any, int] = {}
    code = [[seen.setdefault(v, len(seen)) for v in side] for side in (truth, answers)]
    return np.array(code[0], np.int64), np.array(code[1], np.int64)


def _numbers(values) -> np.ndarray:
    return np.asarray(values, np.float64)


def _mean(weights: Weights, values: Float[np.ndarray, " n"]):
    return weights @ values / weights.sum(1)


def covariance(weights: Weights, one, other) -> Float[np.ndarray, " r"]:
    """Weighted covariance; a variance that is only rounding is NaN."""
    # Centred first, so that the difference of large squares keeps its digits.
    a, b = one - one.mean(), other - other.mean()
    found = _mean(weights, a * b) - _mean(weights, a) * _mean(weights, b)
    if one is not other:
        return found
    rounding = 1e-12 * np.square(a).max() + np.square(1e-14 * np.abs(one).max())
    return np.where(found > rounding, found, np.nan)
