"""Survival metrics are scikit-survival's and lifelines', with ties and censoring."""

import math
import time

import numpy as np
import pytest
from lifelines.utils import concordance_index
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
)
from sksurv.util import Surv

from brainjax.evaluate import metrics, survival

TIED, CONTINUOUS = "tied", "continuous"


def subjects(kind: str, seed: int, n: int = 60):
    """Times, events and risks; tied ones have few different times and risks."""
    rng = np.random.default_rng(seed)
    risks = rng.normal(size=n)
    times = rng.exponential(np.exp(-risks)) * 100
    limits = rng.exponential(120, n)
    events, times = times <= limits, np.minimum(times, limits)
    if kind == TIED:
        times, risks = np.ceil(times / 20) * 20, np.round(risks)
        # scikit-survival has no weights where all who are left are censored at once.
        events[times == times.max()] = False
    return times, events, risks


CASES = [(kind, seed) for kind in (TIED, CONTINUOUS) for seed in range(5)]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_harrell_is_that_of_both_libraries(kind, seed):
    times, events, risks = subjects(kind, seed)
    got = survival.harrell(times, events, risks, range(60))
    want = concordance_index_censored(events, times, risks)[0]
    assert got.value == pytest.approx(want, rel=1e-12)
    assert got.value == pytest.approx(concordance_index(times, -risks, events))
    assert got.low < got.value < got.high


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_uno_is_that_of_scikit_survival(kind, seed):
    times, events, risks = subjects(kind, seed)
    frame = Surv.from_arrays(events, times)
    got = survival.uno(times, events, risks, range(60))
    want = concordance_index_ipcw(frame, frame, risks)[0]
    assert got.value == pytest.approx(want, rel=1e-9)
    assert got.low < got.value < got.high


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_time_auc_is_that_of_scikit_survival(kind, seed):
    times, events, risks = subjects(kind, seed)
    frame = Surv.from_arrays(events, times)
    for at in survival.auc_times(times, events):
        got = survival.time_auc(times, events, risks, range(60), at=at, samples=50)
        want, _ = cumulative_dynamic_auc(frame, frame, risks, [at])
        assert got.value == pytest.approx(want[0], rel=1e-9)


def test_the_interval_is_that_of_drawing_subjects_one_by_one():
    times, events, risks = subjects(CONTINUOUS, 0)
    got = survival.harrell(times, events, risks, range(60), samples=100)
    counts = np.random.default_rng(metrics.SEED).multinomial(
        60, np.full(60, 1 / 60), size=100
    )
    drawn = []
    for count in counts:
        rows = np.repeat(np.arange(60), count)
        found = concordance_index_censored(events[rows], times[rows], risks[rows])
        drawn.append(found[0])
    np.testing.assert_allclose(
        [got.low, got.high], np.percentile(drawn, [2.5, 97.5]), rtol=1e-9
    )


def test_the_weights_of_uno_are_those_of_each_draw():
    times, events, risks = subjects(CONTINUOUS, 1)
    keep = np.random.default_rng(0).integers(0, 60, 60)
    weights = np.bincount(keep, minlength=60)[None].astype(float)
    order = survival._Order(times, events)
    inverse = np.where(events, 1 / order.uncensored(weights), 0)
    got = survival._Pairs(times, events, risks).share(weights * inverse**2, weights)
    drawn = times[keep], events[keep], risks[keep]
    want = survival.uno(*drawn, range(60), samples=0).value
    assert got[0] == pytest.approx(want, rel=1e-12)


def test_censoring_moves_harrell_and_hardly_uno():
    rng = np.random.default_rng(0)
    n = 3000
    risks = rng.normal(size=n)
    times = rng.exponential(np.exp(-risks))
    whole = survival.harrell(times, np.ones(n, bool), risks, range(n), samples=0)
    limits = rng.exponential(0.7, n)
    seen = np.minimum(times, limits), times <= limits, risks, range(n)
    moved = survival.harrell(*seen, samples=0).value - whole.value
    corrected = survival.uno(*seen, samples=0).value - whole.value
    assert abs(corrected) < abs(moved)


YES, NO = np.array([True] * 3), np.array([False] * 3)
UP = np.array([1.0, 2.0, 3.0])
UNDEFINED = {
    "nobody": (np.zeros(0), np.zeros(0, bool), np.zeros(0)),
    "one subject": (UP[:1], YES[:1], UP[:1]),
    "no event": (UP, NO, UP),
    "all at one time": (np.ones(3), YES, UP),
    "a risk that is NaN": (UP, YES, np.array([1, np.nan, 2])),
}


@pytest.mark.parametrize("case", UNDEFINED)
@pytest.mark.parametrize("name", ["harrell", "uno"])
def test_what_is_undefined_is_nan_without_a_warning(name, case):
    values = UNDEFINED[case]
    got = getattr(survival, name)(*values, range(len(values[0])))
    assert all(math.isnan(number) for number in got[:3])


@pytest.mark.parametrize("case", UNDEFINED)
def test_time_auc_needs_cases_and_controls(case):
    values = UNDEFINED[case]
    at = survival.auc_times(*values[:2])[1]
    got = survival.time_auc(*values, range(len(values[0])), at=at)
    assert math.isnan(got.value)
    late = survival.time_auc(UP, YES, UP, range(3), at=3.0)
    assert math.isnan(late.value)


def test_uno_has_no_weight_for_an_event_when_all_others_are_censored():
    times, events = np.array([1.0, 2.0, 2.0]), np.array([True, True, False])
    assert math.isnan(survival.uno(times, events, UP, range(3)).value)
    frame = Surv.from_arrays(events, times)
    with pytest.raises(ValueError, match="is zero"):
        concordance_index_ipcw(frame, frame, UP)


def test_three_subjects_are_enough():
    got = survival.harrell(UP, YES, -UP, range(3))
    assert got.value == 1
    assert survival.uno(UP, YES, -UP, range(3)).value == 1
    assert survival.time_auc(UP, YES, -UP, range(3), at=2.0).value == 1
    censored = survival.harrell(UP, np.array([True, False, False]), UP, range(3))
    assert censored.value == 0


def test_two_hundred_subjects_take_less_than_five_seconds():
    times, events, risks = subjects(CONTINUOUS, 0, 200)
    start = time.perf_counter()
    survival.harrell(times, events, risks, range(200))
    survival.uno(times, events, risks, range(200))
    for at in survival.auc_times(times, events):
        survival.time_auc(times, events, risks, range(200), at=at)
    assert time.perf_counter() - start < 5
