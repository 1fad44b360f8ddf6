"""Whether a regression answers the young too old and the old too young.

A regression trained on few scans pulls its answers to the mean, so that the gap
(answer - truth) falls with the truth. The correction takes away the line that the gap
follows in validation: corrected = answer - (intercept + slope x truth). It needs the
truth, so it is for comparing groups and never a better prediction; the error after it
is smaller by construction and is reported by a name of its own. Source: Beheshti et
al. 2019; de Lange and Cole 2020.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.evaluate.metrics import (
    SAMPLES,
    Metric,
    Subjects,
    Weights,
    covariance,
    measure,
)


class Bias(NamedTuple):
    """A line that the gap follows: intercept (in units) + slope x truth."""

    intercept: float
    slope: float


def fit_bias(truth: Float[np.ndarray, " n"], answers: Float[np.ndarray, " n"]):
    """Fits the line to validation scans, by least squares.

    Returns:
      `Bias`; None with fewer than three scans, or where the truth is constant.
    """
    if len(truth) < 3:
        return None
    slope = bias_slope(truth, answers, range(len(truth)), samples=0).value
    if not np.isfinite(slope):
        return None
    return Bias(float(np.mean(answers - truth) - slope * np.mean(truth)), slope)


def correct_bias(
    bias: Bias, truth: Float[np.ndarray, " n"], answers: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Takes away the gap that is expected at every scan's truth."""
    return answers - (bias.intercept + bias.slope * truth)


def bias_slope(truth, answers, subjects: Subjects, *, samples: int = SAMPLES) -> Metric:
    """Slope of answer - truth on truth: 0 is none, -1 an answer that is constant.

    Undefined where the truth is constant.
    """
    truth = np.asarray(truth, np.float64)
    gap = np.asarray(answers, np.float64) - truth

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        spread = covariance(weights, truth, truth)
        return covariance(weights, truth, gap) / spread

    return measure(statistic, subjects, samples)
