"""Whether probabilities are what they say, and one number that mends them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from brainjax.evaluate.metrics import SAMPLES, Metric, Subjects, Weights, measure

BINS = 10
LIMIT = 10.0
"""Temperatures lie between 1 / LIMIT and LIMIT."""


class Reliability(NamedTuple):
    """Bins of equal width of the stated probability, empty ones left out.

    Attributes:
      stated: mean probability in a bin; happened: how often it came true.
      count: scans in it.
    """

    stated: list[float]
    happened: list[float]
    count: list[int]


def stated_and_true(
    probabilities: Float[np.ndarray, "n k"], codes: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Gives what was stated of each scan, and whether (1 or 0) it was so.

    Of two classes the probability of the second; of more, that of the answer.

    Args:
      probabilities: of the classes.
      codes: number of the true class; -1 for one that training never saw.
    """
    probabilities, codes = np.asarray(probabilities, np.float64), np.asarray(codes)
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (codes == 1).astype(np.float64)
    answers = probabilities.argmax(1)
    stated = probabilities[np.arange(len(answers)), answers]
    return stated, (answers == codes).astype(np.float64)


def ece(
    probabilities,
    codes,
    subjects: Subjects,
    *,
    bins: int = BINS,
    samples: int = SAMPLES,
) -> Metric:
    """Expected calibration error: mean |stated - happened| over bins, by their scans.

    Biased upwards in small test sets, as every bin's frequency is noisy. Undefined
    where a probability is not finite. Arguments as for `stated_and_true`.
    """
    stated, true = stated_and_true(probabilities, codes)
    members = (_bins(stated, bins)[:, None] == np.arange(bins)).astype(np.float64)
    gap = (stated - true)[:, None] * members

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        return np.abs(weights @ gap).sum(1) / weights.sum(1)

    return measure(statistic, subjects, samples)


def reliability(probabilities, codes, *, bins: int = BINS) -> Reliability:
    """Gives the points of a reliability plot; arguments as for `stated_and_true`."""
    stated, true = stated_and_true(probabilities, codes)
    found = _bins(stated, bins)
    rows = [found == number for number in np.unique(found)]
    return Reliability(
        [float(stated[row].mean()) for row in rows],
        [float(true[row].mean()) for row in rows],
        [int(row.sum()) for row in rows],
    )


def fit_temperature(
    logits: Float[np.ndarray, "n k"], codes: Int[np.ndarray, " n"]
) -> float:
    """Gives what to divide logits by, for the likeliest labels (Guo et al. 2017).

    log T has a normal prior of spread 1, worth about one scan: without it, a few
    validation scans that are all answered rightly would make every answer certain. 1
    without any scan of a known class (code 0 or more), or with logits not finite.
    """
    codes = np.asarray(codes)
    logits = np.asarray(logits, np.float64)[codes >= 0]
    codes = codes[codes >= 0]
    if not len(codes) or not np.isfinite(logits).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        found = log_softmax(logits / np.exp(log_temperature), axis=1)
        nats = -found[np.arange(len(codes)), codes].sum()
        return float(nats + 0.5 * log_temperature**2)

    bounds = (-np.log(LIMIT), np.log(LIMIT))
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def _bins(stated: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Numbers of bins; a probability on an edge belongs to the lower one, 0 to 0."""
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, stated).astype(np.int64)
