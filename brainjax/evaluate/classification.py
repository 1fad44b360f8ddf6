"""Metrics of classes beside those of `metrics`: precision, recall, F1, and DeLong's.

Of two classes the second is the positive one. Of more, each is taken against the rest
and the mean is given (macro), over the classes that occur in truth or answers.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri

from brainjax.evaluate.metrics import (
    SAMPLES,
    Metric,
    Subjects,
    Weights,
    measure,
    number_subjects,
)

Z = float(ndtri(0.975))
Classes = Sequence[Hashable]
Counts = Float[np.ndarray, "r k"]


def precision(
    truth, answers, subjects: Subjects, classes: Classes, *, samples: int = SAMPLES
) -> Metric:
    """Share of the answers of a class that are right.

    Of two classes undefined where the second is never answered; of more such a class
    counts as 0.
    """

    def ratio(hits: Counts, answered: Counts, present: Counts) -> Counts:
        return hits / answered

    return _by_class(ratio, truth, answers, subjects, classes, samples)


def recall(
    truth, answers, subjects: Subjects, classes: Classes, *, samples: int = SAMPLES
) -> Metric:
    """Share of a class's scans that are answered so (sensitivity).

    Of two classes undefined where the second is missing from the truth; of more such a
    class counts as 0, if it was answered.
    """

    def ratio(hits: Counts, answered: Counts, present: Counts) -> Counts:
        return hits / present

    return _by_class(ratio, truth, answers, subjects, classes, samples)


def f1(
    truth, answers, subjects: Subjects, classes: Classes, *, samples: int = SAMPLES
) -> Metric:
    """Harmonic mean of precision and recall; undefined where neither is defined."""

    def ratio(hits: Counts, answered: Counts, present: Counts) -> Counts:
        return 2 * hits / (answered + present)

    return _by_class(ratio, truth, answers, subjects, classes, samples)


class PairedTest(NamedTuple):
    """How two scores of the same scans differ in AUC, a - b.

    Attributes:
      difference, low, high: with its 95 % interval; p: two-sided, of no difference.
      n: subjects.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int


def delong(
    positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"], subjects
) -> Metric:
    """AUC with DeLong's 95 % interval, cut to 0..1.

    With several scans a subject the variance is Obuchowski's (1997), which is DeLong's
    (1988) for one. The interval is undefined with fewer than two subjects of a class,
    and where classes are apart altogether: its variance would be 0.

    Args:
      positive: which scans are of the second class.
      scores: higher for more probably positive.
      subjects: of the scans.
    """
    groups = number_subjects(subjects)
    areas, variance = _areas(positive, [scores], groups)
    n = len(np.unique(groups))
    spread = variance[0, 0]
    if not spread > 0:
        return Metric(float(areas[0]), np.nan, np.nan, n)
    low, high = areas[0] + np.array([-Z, Z]) * np.sqrt(spread)
    return Metric(float(areas[0]), max(0.0, float(low)), min(1.0, float(high)), n)


def delong_test(
    positive: Bool[np.ndarray, " n"],
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    subjects,
) -> PairedTest:
    """Tests whether two scores of the same scans have the same AUC.

    p is NaN where the difference has no variance: fewer than two subjects of a class,
    or scores that rank the scans alike. Arguments as for `delong`.
    """
    groups = number_subjects(subjects)
    areas, variance = _areas(positive, [a, b], groups)
    difference, n = float(areas[0] - areas[1]), len(np.unique(groups))
    spread = variance[0, 0] + variance[1, 1] - 2 * variance[0, 1]
    if not spread > 1e-16:
        return PairedTest(difference, np.nan, np.nan, np.nan, n)
    error = float(np.sqrt(spread))
    low, high = difference - Z * error, difference + Z * error
    p = float(2 * ndtr(-abs(difference) / error))
    return PairedTest(difference, low, high, p, n)


def _areas(
    positive, scores, groups: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]:
    """AUCs of k scores, and their covariance over subjects."""
    positive = np.asarray(positive, bool)
    scores = np.asarray(scores, np.float64)
    k, m, n = len(scores), int(positive.sum()), int((~positive).sum())
    unknown = np.full(k, np.nan), np.full((k, k), np.nan)
    if not m or not n or not np.isfinite(scores).all():
        return unknown
    won, lost = _placements(positive, scores)
    areas = won.mean(axis=1)
    above, with_positive = _deviations(won - areas[:, None], groups[positive], groups)
    below, with_negative = _deviations(lost - areas[:, None], groups[~positive], groups)
    count = len(np.unique(groups))
    if min(with_positive, with_negative) < 2:
        return areas, unknown[1]
    found = with_positive / (with_positive - 1) * above @ above.T / m**2
    found = found + with_negative / (with_negative - 1) * below @ below.T / n**2
    # Zero unless a subject has scans of both classes.
    both = count / (count - 1) * above @ below.T / (m * n)
    return areas, found + both + both.T


def _placements(positive, scores) -> tuple[np.ndarray, np.ndarray]:
    """Share of negatives below each positive, and of positives above each negative."""
    from scipy.stats import rankdata  # takes half a second to import

    ranks = rankdata(scores, axis=1)
    above, below = scores[:, positive], scores[:, ~positive]
    m, n = above.shape[1], below.shape[1]
    won = (ranks[:, positive] - rankdata(above, axis=1)) / n
    lost = 1 - (ranks[:, ~positive] - rankdata(below, axis=1)) / m
    return won, lost


def _deviations(values, members, groups) -> tuple[Float[np.ndarray, "k g"], int]:
    """Sums of values [k, m] over each subject, and how many subjects have any."""
    size = int(groups.max()) + 1
    sums = np.stack([np.bincount(members, row, minlength=size) for row in values])
    return sums, len(np.unique(members))


def _by_class(
    ratio: Callable[[Counts, Counts, Counts], Counts],
    truth,
    answers,
    subjects: Subjects,
    classes: Classes,
    samples: int,
) -> Metric:
    """One ratio of counts: of the second of two classes, or the mean of them all."""
    two = len(classes) == 2
    names = [classes[1]] if two else list(dict.fromkeys([*truth, *answers]))
    true = np.array([[t == name for name in names] for t in truth], float)
    given = np.array([[a == name for name in names] for a in answers], float)
    shape = len(truth), len(names)
    true, given = true.reshape(shape), given.reshape(shape)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        answered, present = weights @ given, weights @ true
        found = ratio(weights @ (true * given), answered, present)
        if two:
            return found[:, 0]
        occurs = answered + present > 0
        return np.where(np.isfinite(found), found, 0).sum(1) / occurs.sum(1)

    return measure(statistic, subjects, samples)
