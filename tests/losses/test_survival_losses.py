"""Cox and discrete-time losses equal lifelines', and their plain NumPy twins."""

import warnings
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from brainjax.losses import TIES, cox, discrete_time
from brainjax.losses.survival import cumulative
from tests.simulated import run_simulated


def follow_up(seed, n=60, *, last=12, share=0.6):
    """Random risks, tied times, events and weights, float64."""
    rng = np.random.default_rng(seed)
    times = rng.integers(1, last + 1, n).astype(float)
    return 2 * rng.normal(size=n), times, rng.random(n) < share, rng.uniform(0.5, 2, n)


def lifelines_efron(outputs, times, events, weights):
    """Negative log partial likelihood and its slope, one covariate a subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifelines.fitters.coxph_fitter import SemiParametricPHFitter
    order = np.argsort(times, kind="stable")
    parts = [pd.Series(part[order]) for part in (times, events, weights)]
    one = pd.DataFrame(np.eye(len(times))[order])
    fitter = SemiParametricPHFitter()
    _, slope, value = fitter._get_efron_values_single(one, *parts, None, outputs)
    return -value, -slope


def breslow(outputs, times, events, weights):
    """The plain twin: a risk set for each event, one after the other."""
    value, slope = 0.0, np.zeros(len(times))
    hazards = weights * np.exp(outputs)
    for i in np.flatnonzero(events):
        at_risk = hazards * (times >= times[i])
        value += weights[i] * (np.log(at_risk.sum()) - outputs[i])
        slope += weights[i] * at_risk / at_risk.sum()
        slope[i] -= weights[i]
    return value, slope


TWINS = {"efron": lifelines_efron, "breslow": breslow}
CASES = {
    "heavy ties": follow_up(0),
    "more subjects than a batch": follow_up(1, 200, last=25),
    "few ties": follow_up(2, last=10_000),
    "one time only": follow_up(3, last=1),
    "few events": follow_up(4, share=0.05),
    "no censoring": follow_up(5, share=1.0),
}


compiled_cox = jax.jit(cox, static_argnames="ties")
compiled_discrete = jax.jit(discrete_time)


@partial(jax.jit, static_argnames="ties")
def slope_of(*case, ties):
    return jax.value_and_grad(lambda *case: cox(*case, ties=ties).total)(*case)


def descend(case, ties, dtype):
    outputs, times, events, weights = case
    numbers = [jnp.asarray(part, dtype) for part in (outputs, times, weights)]
    return slope_of(*numbers[:2], jnp.asarray(events), numbers[2], ties=ties)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", CASES)
def test_cox_and_its_slope_equal_the_reference(name, ties):
    value, slope = TWINS[ties](*CASES[name])
    with jax.enable_x64(True):
        got, gradient = descend(CASES[name], ties, jnp.float64)
    np.testing.assert_allclose(got, value, rtol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)
    got, gradient = descend(CASES[name], ties, jnp.float32)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ties", TIES)
def test_what_scikit_survival_fits_is_the_minimum(ties):
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    x = np.random.default_rng(0).normal(size=(60, 3))
    _, times, events, _ = CASES["heavy ties"]
    fitted = CoxPHSurvivalAnalysis(ties=ties, tol=1e-12)
    fitted.fit(x, Surv.from_arrays(events, times))

    with jax.enable_x64(True):
        case = (x @ fitted.coef_, times, events, np.ones(60))
        _, slope = descend(case, ties, jnp.float64)
    np.testing.assert_allclose(np.asarray(slope) @ x, 0, atol=1e-8)


@pytest.mark.parametrize("ties", TIES)
def test_a_subject_of_weight_zero_is_not_there(ties):
    outputs, times, events, weights = CASES["heavy ties"]
    holes = [3, 17, 40]
    without = descend([np.delete(p, holes) for p in CASES["heavy ties"]], ties, float)
    outputs, times, weights = outputs.copy(), times.copy(), weights.copy()
    weights[holes], times[holes], outputs[holes] = 0, np.nan, [np.nan, np.inf, 1e30]
    value, slope = descend((outputs, times, events, weights), ties, float)
    np.testing.assert_allclose(value, without[0], rtol=1e-6)
    np.testing.assert_allclose(np.delete(slope, holes), without[1], atol=1e-6)
    np.testing.assert_array_equal(slope[jnp.array(holes)], 0)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("reason", ["all censored", "all of weight 0", "nobody"])
def test_without_an_event_there_is_no_loss_and_no_slope(ties, reason):
    n = 0 if reason == "nobody" else 60
    events = jnp.full(n, reason != "all censored")
    weights = jnp.full(n, float(reason != "all of weight 0"))
    outputs, times = jnp.full(n, 1e4), jnp.arange(n) * 1.0
    value, slope = slope_of(outputs, times, events, weights, ties=ties)
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_large_risks_stay_finite(ties, scale):
    outputs, *rest = CASES["heavy ties"]
    value, slope = descend((scale * outputs, *rest), ties, jnp.float32)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    assert np.abs(slope).sum() > 0


@pytest.mark.parametrize("ties", TIES)
def test_a_common_size_of_the_risks_changes_nothing(ties):
    outputs, *rest = CASES["heavy ties"]
    outputs = np.round(outputs * 64) / 64  # so that adding 1024 rounds nothing
    plain = descend((outputs, *rest), ties, jnp.float32)
    moved = descend((outputs + 1024, *rest), ties, jnp.float32)
    np.testing.assert_array_equal(moved[0], plain[0])
    np.testing.assert_array_equal(moved[1], plain[1])


@pytest.mark.parametrize("ties", TIES)
def test_a_single_event_by_hand(ties):
    # It comes second: subjects 1, 2 and 3 are at risk, subject 0 was lost before.
    outputs = jnp.log(jnp.array([5.0, 1.0, 2.0, 3.0]))
    times = jnp.arange(4)
    sums = compiled_cox(outputs, times, times == 1, jnp.ones(4), ties=ties)
    np.testing.assert_allclose(sums.total, np.log(6), rtol=1e-6)
    assert sums.weight == 1


def test_two_tied_events_by_hand():
    # Hazards 1, 2 (events) and 3 (censored at that time, so at risk).
    outputs, ones = jnp.log(jnp.array([1.0, 2.0, 3.0])), jnp.ones(3)
    events = jnp.array([True, True, False])
    by = {t: compiled_cox(outputs, ones, events, ones, ties=t).total for t in TIES}
    np.testing.assert_allclose(by["breslow"], np.log(6 * 6 / 2), rtol=1e-6)
    np.testing.assert_allclose(by["efron"], np.log(6 * 4.5 / 2), rtol=1e-6)


@pytest.mark.parametrize("n", [1, 9])
def test_the_cumulative_sum_and_its_slope_equal_those_of_jax(n):
    values, slopes = jnp.asarray(np.random.default_rng(0).normal(size=(2, n)))

    def descend_by(form):
        return jax.jit(jax.value_and_grad(lambda v: form(v) @ slopes))(values)

    want = descend_by(jax.lax.cumlogsumexp)
    chex.assert_trees_all_close(descend_by(cumulative), want, rtol=1e-4, atol=1e-5)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from brainjax.losses import cox
rng = np.random.default_rng(0)
given = rng.normal(size=16), rng.integers(1, 5, 16), rng.random(16) < 0.6, np.ones(16)
given = [jnp.asarray(part) for part in given]
mesh = Mesh(np.array(jax.devices()), "data", axis_types=(AxisType.Auto,))
spread = [jax.device_put(part, NamedSharding(mesh, P("data"))) for part in given]
for ties in ("efron", "breslow"):
    step = jax.jit(jax.value_and_grad(lambda *a: cox(*a, ties=ties).total))
    for one, many in zip(step(*given), step(*spread)):
        np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)
"""


def test_a_batch_spread_over_devices_has_the_same_risk_sets():
    run_simulated(SHARDED, 4)


EDGES = np.array([2.0, 5.0, 9.0])


def discrete_twin(logits, times, events, weights):
    total = 0.0
    for i, hazards in enumerate(1 / (1 + np.exp(-logits))):
        for j, edge in enumerate(EDGES):
            start = EDGES[j - 1] if j else -np.inf
            if events[i] and start < times[i] <= edge:
                total -= weights[i] * np.log(hazards[j])
            elif edge < times[i] or (edge == times[i] and not events[i]):
                total -= weights[i] * np.log(1 - hazards[j])
    return total


def test_discrete_time_equals_its_plain_twin():
    _, times, events, weights = CASES["heavy ties"]
    logits = np.random.default_rng(1).normal(size=(60, 3))
    want = discrete_twin(logits, times, events, weights)
    arrays = [jnp.asarray(part) for part in (logits, times, events, EDGES, weights)]
    total, weight = compiled_discrete(*arrays)
    np.testing.assert_allclose(total, want, rtol=1e-5)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)


def test_discrete_time_by_hand():
    # An event in the second interval, one lost in it, one beyond the last edge.
    times, events = jnp.array([3.0, 3.0, 20.0]), jnp.array([True, False, True])
    logits = jnp.zeros((3, 3))
    for i, halves in enumerate([2, 1, 3]):
        one = jnp.arange(3) == i
        got = compiled_discrete(logits, times, events, jnp.asarray(EDGES), one * 1.0)
        np.testing.assert_allclose(got.total, halves * np.log(2), rtol=1e-6)


def test_discrete_time_skips_what_is_not_there_and_stays_finite():
    times, events = jnp.array([3.0, jnp.nan]), jnp.array([True, True])
    logits = jnp.array([[1e4, -1e4, 0.0], [jnp.nan] * 3])

    def loss(logits):
        weights = jnp.array([1.0, 0.0])
        return discrete_time(logits, times, events, jnp.asarray(EDGES), weights).total

    value, slope = jax.jit(jax.value_and_grad(loss))(logits)
    np.testing.assert_allclose(value, 2e4)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[1], 0)


def test_the_minimum_of_discrete_time_is_the_life_table():
    # The logits of the hazards that the counts give have no slope left.
    times = jnp.array([1.0, 2.0, 3.0, 5.0, 6.0, 9.0, 9.0, 5.0])
    events = jnp.array([1, 0, 1, 1, 0, 1, 1, 0])
    died, survived = np.array([1, 2, 2]), np.array([7, 4, 0])
    hazards = died / np.maximum(died + survived, 1)
    logits = jnp.asarray(np.log(hazards[:2] / (1 - hazards[:2])), jnp.float32)

    def loss(two):
        rows = jnp.tile(jnp.append(two, 0.0), (8, 1))
        return discrete_time(rows, times, events, jnp.asarray(EDGES), jnp.ones(8)).total

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(logits), 0, atol=1e-6)
