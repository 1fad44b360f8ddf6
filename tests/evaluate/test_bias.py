"""The slope of the gap is scipy's, and its correction takes the line away."""

import math

import numpy as np
import pytest
from scipy import stats

from brainjax.evaluate.regression import bias_slope, correct_bias, fit_bias

RNG = np.random.default_rng(0)
AGE = RNG.uniform(20, 80, 60)
ANSWER = 50 + 0.4 * (AGE - 50) + RNG.normal(0, 4, 60)


def test_the_slope_is_that_of_the_reference():
    want = stats.linregress(AGE, ANSWER - AGE)
    got = bias_slope(AGE, ANSWER, range(60))
    assert got.value == pytest.approx(want.slope)
    assert got.low < got.value < got.high < 0
    bias = fit_bias(AGE, ANSWER)
    assert bias is not None
    assert bias == pytest.approx((want.intercept, want.slope))


def test_the_correction_leaves_no_slope_where_it_was_fitted():
    bias = fit_bias(AGE, ANSWER)
    assert bias is not None
    corrected = correct_bias(bias, AGE, ANSWER)
    assert bias_slope(AGE, corrected, range(60)).value == pytest.approx(0, abs=1e-9)
    assert np.mean(corrected - AGE) == pytest.approx(0, abs=1e-9)
    assert np.abs(corrected - AGE).mean() < np.abs(ANSWER - AGE).mean()


def test_a_constant_answer_has_a_slope_of_minus_one():
    assert bias_slope(AGE, np.full(60, 50.0), range(60)).value == pytest.approx(-1)


def test_three_scans_are_enough_and_two_are_not():
    assert fit_bias(AGE[:3], ANSWER[:3]) is not None
    assert fit_bias(AGE[:2], ANSWER[:2]) is None
    assert fit_bias(np.full(5, 50.0), ANSWER[:5]) is None
    assert math.isnan(bias_slope([50, 50, 50], [1, 2, 3], range(3)).value)
