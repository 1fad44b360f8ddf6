"""Curves, log-rank and hazard ratios are lifelines', with ties and censoring."""

import math

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test

from brainjax.evaluate.hazards import hazard_ratio, kaplan_meier, log_rank


def subjects(seed: int, *, tied: bool, n: int = 80):
    rng = np.random.default_rng(seed)
    covariates = rng.normal(size=(n, 2)) * [10, 0.1] + [50, 3]
    group = rng.random(n) < 0.4
    hazard = np.exp(0.8 * group + 0.03 * (covariates[:, 0] - 50))
    times, limits = rng.exponential(1 / hazard), rng.exponential(1.2, n)
    events, times = times <= limits, np.minimum(times, limits)
    return (np.ceil(times * 4) / 4 if tied else times), events, group, covariates


CASES = [(seed, tied) for seed in range(4) for tied in (False, True)]


@pytest.mark.parametrize(("seed", "tied"), CASES)
def test_the_curve_is_that_of_lifelines(seed, tied):
    times, events, *_ = subjects(seed, tied=tied)
    fitter = KaplanMeierFitter().fit(times, events)
    got = kaplan_meier(times, events)
    table = fitter.event_table
    np.testing.assert_allclose(got.time, table.index)
    np.testing.assert_allclose(got.survival, fitter.survival_function_.iloc[:, 0])
    np.testing.assert_array_equal(got.at_risk[1:], table["at_risk"].iloc[1:])
    bounds = fitter.confidence_interval_.to_numpy()
    inner = (got.survival > 0) & (got.survival < 1)
    np.testing.assert_allclose(got.low[inner], bounds[inner, 0], rtol=1e-6)
    np.testing.assert_allclose(got.high[inner], bounds[inner, 1], rtol=1e-6)


@pytest.mark.parametrize(("seed", "tied"), CASES)
@pytest.mark.parametrize("count", [2, 4])
def test_the_log_rank_test_is_that_of_lifelines(seed, tied, count):
    times, events, _, covariates = subjects(seed, tied=tied)
    groups = np.digitize(covariates[:, 0], np.linspace(40, 60, count - 1))
    want = multivariate_logrank_test(times, groups, events)
    got = log_rank(times, events, groups)
    assert got.statistic == pytest.approx(want.test_statistic, rel=1e-9)
    assert got.p == pytest.approx(want.p_value, rel=1e-9)
    assert got.degrees == count - 1


@pytest.mark.parametrize(("seed", "tied"), CASES)
@pytest.mark.parametrize("adjusted", [False, True])
def test_the_hazard_ratio_is_that_of_lifelines(seed, tied, adjusted):
    times, events, group, covariates = subjects(seed, tied=tied)
    frame = pd.DataFrame({"t": times, "e": events, "group": group.astype(float)})
    if adjusted:
        frame["age"], frame["volume"] = covariates.T
    options = {"precision": 1e-12}
    fitted = CoxPHFitter().fit(frame, "t", "e", fit_options=options).summary
    got = hazard_ratio(group, times, events, covariates if adjusted else None)
    want = fitted.loc["group"]
    assert got.value == pytest.approx(want["exp(coef)"], rel=1e-6)
    assert got.low == pytest.approx(want["exp(coef) lower 95%"], rel=1e-6)
    assert got.high == pytest.approx(want["exp(coef) upper 95%"], rel=1e-6)
    assert got.p == pytest.approx(want["p"], rel=1e-5)
    assert (got.n, got.events) == (80, events.sum())


TIMES = np.array([1.0, 2.0, 3.0, 4.0])
EVENTS = np.ones(4, bool)
FIRST = np.array([True, True, False, False])
UNDEFINED = {
    "groups that are apart": (FIRST, TIMES, EVENTS, None),
    "one group": (EVENTS, TIMES, EVENTS, None),
    "no event": (FIRST, TIMES, ~EVENTS, None),
    "nobody": (FIRST[:0], TIMES[:0], EVENTS[:0], None),
    "one subject": (FIRST[:1], TIMES[:1], EVENTS[:1], None),
    "a group without events": (FIRST, TIMES, ~FIRST, None),
    "a covariate that is the group": (
        np.array([True, False, True, False]),
        TIMES,
        EVENTS,
        np.array([[1.0], [0.0], [1.0], [0.0]]),
    ),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_a_ratio_that_is_undefined_is_nan(case):
    got = hazard_ratio(*UNDEFINED[case])
    assert all(math.isnan(number) for number in got[:4])


def test_three_subjects_have_a_curve_and_a_test():
    got = kaplan_meier(np.array([1.0, 1.0, 2.0]), np.array([True, False, True]))
    np.testing.assert_allclose(got.survival, [1, 2 / 3, 0])
    found = log_rank(TIMES[:3], EVENTS[:3], np.array([0, 1, 1]))
    want = multivariate_logrank_test(TIMES[:3], [0, 1, 1], EVENTS[:3])
    assert found.p == pytest.approx(want.p_value)


@pytest.mark.parametrize(
    ("events", "groups"),
    [([0, 0, 0], [0, 1, 1]), ([1, 1, 1], [2, 2, 2])],
    ids=["no event", "one group"],
)
def test_a_log_rank_test_that_is_undefined_is_nan(events, groups):
    found = log_rank(TIMES[:3], np.array(events, bool), np.array(groups))
    assert math.isnan(found.p)
