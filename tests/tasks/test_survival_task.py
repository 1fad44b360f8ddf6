"""Survival as a task, true and as a class by a horizon, and tasks of any column."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from brainjax.errors import InputRefusedError
from brainjax.losses import cox
from brainjax.tasks import Classification, Regression, make_task, task_from_dict

TIMES = [100, 200.5, None, 300, 300, 400, 50]
EVENTS = [1, "yes", 1, None, False, np.True_, "0"]
COLUMNS = {"days": TIMES, "event": EVENTS, "age": [1, 2, 3, 4, 5, 6, 7]}
PAIRS = [(100.0, True), (200.5, True), None, None, (300.0, False)]
PAIRS += [(400.0, True), (50.0, False)]


def survival(**keywords):
    return make_task("survival", target="days", event="event", **keywords)


def fitted(**keywords):
    task = survival(**keywords)
    return task.fit(task.values(COLUMNS.__getitem__))


def test_survival_reads_times_and_events():
    task = survival(covariates=("age",))
    assert task.columns_read == ("days", "event", "age")
    assert task.unit == "days"
    assert task.values(COLUMNS.__getitem__) == PAIRS
    assert (fitted().scans, fitted().events, fitted().outputs) == (5, 3, 1)


def test_survival_encodes_what_its_loss_takes():
    task = fitted()
    targets, weights = task.encode(PAIRS)
    assert targets.dtype == weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [1, 1, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(targets[[0, 4]], [[100, 1], [300, 0]])
    outputs = np.random.default_rng(0).normal(size=(7, 1)).astype(np.float32)
    got = jax.jit(task.loss)(outputs, targets, weights)
    known = np.flatnonzero(weights)
    parts = map(jnp.asarray, (outputs[known, 0], *targets[known].T, weights[known]))
    np.testing.assert_allclose(got, cox(*parts).total / 3, rtol=1e-5)


@pytest.mark.parametrize("keywords", [{}, {"ties": "breslow"}, {"loss": "discrete"}])
def test_an_unlabelled_batch_has_no_survival_loss(keywords):
    task = fitted(**keywords)
    targets, weights = map(jnp.asarray, task.encode([None, None]))
    outputs = jnp.ones((2, task.outputs))
    loss, slope = jax.jit(jax.value_and_grad(task.loss))(outputs, targets, weights)
    assert loss == 0
    np.testing.assert_array_equal(slope, 0)


def test_the_risk_of_cox_is_its_output_and_no_probability():
    task, outputs = fitted(), np.array([[0.5], [-2.0]])
    np.testing.assert_array_equal(task.risk(outputs), [0.5, -2.0])
    np.testing.assert_array_equal(task.score_higher(outputs), [0.5, -2.0])
    assert task.columns(outputs) == {"prediction": [0.5, -2.0]}
    with pytest.raises(InputRefusedError, match="loss 'discrete' for probabilities"):
        task.survival(outputs)


def test_discrete_intervals_end_at_event_times():
    task = fitted(loss="discrete", bins=10)
    assert task.edges == (100.0, 200.5, 400.0)
    # 4 were at risk of the first interval: who was lost at 50 did not finish it.
    np.testing.assert_allclose(task.hazards, [1 / 4, 1 / 3, 1.0])
    assert fitted(loss="discrete", bins=2).outputs == 2


def test_discrete_columns_are_probabilities_that_fall():
    task = fitted(loss="discrete")
    columns = task.columns(np.array([[0.0, 0.0, 0.0], [3.0, 0.0, -800.0]]))
    names = ["prediction", "survival_100", "survival_200.5", "survival_400"]
    assert list(columns) == names
    np.testing.assert_allclose(
        [columns[n][0] for n in names[1:]], [1 / 2, 1 / 4, 1 / 8]
    )
    assert columns["survival_400"][1] == columns["survival_200.5"][1]
    assert columns["prediction"][1] > columns["prediction"][0]


def test_the_discrete_risk_ranks_even_the_certain():
    task = fitted(loss="discrete")
    low, high = task.risk(np.array([[900.0, 0, 0], [1000.0, 0, 0]]))
    assert high > low


@pytest.mark.parametrize("keywords", [{}, {"loss": "discrete"}])
def test_the_answer_without_a_scan_is_one_risk_for_all(keywords):
    task = fitted(**keywords)
    outputs = np.tile(task.constant, (3, 1))
    assert outputs.shape == (3, task.outputs)
    assert len(set(task.risk(outputs))) == 1
    if task.discrete:
        np.testing.assert_allclose(task.survival(outputs)[0, :2], [3 / 4, 1 / 2])


SETTINGS = [
    ({"event": ""}, "wanted the event's column"),
    ({"event": None}, "wanted the event's column"),
    ({"loss": "coxx"}, "did you mean 'cox'"),
    ({"ties": "exact"}, "one of breslow, efron"),
    ({"bins": 1}, "at least 2, got 1"),
    ({"bins": 2.5}, "whole number, got 2.5"),
    ({"bins": "ten"}, "at least 2, got 'ten'"),
]


@pytest.mark.parametrize(("keywords", "words"), SETTINGS)
def test_survival_settings_that_do_not_exist_are_refused(keywords, words):
    with pytest.raises(InputRefusedError, match=words):
        make_task("survival", target="days", **{"event": "event", **keywords})


def year(**keywords):
    return make_task("classification", target="days", event="event", **keywords)


def test_a_horizon_makes_classes_of_times():
    task = year(horizon=200.5)
    assert task.columns_read == ("days", "event")
    # Lost at 50 is unknown; seen at 300, and dead at 400, is alive at the horizon.
    want = ["yes", "yes", None, None, "no", "no", None]
    assert task.values(COLUMNS.__getitem__) == want
    assert task.fit(want).classes == ("no", "yes")
    censored = {"days": [365, 365, 364], "event": [0, 1, 0]}
    assert year(horizon=365).values(censored.__getitem__) == ["no", "yes", None]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, "event and horizon together, got event 'event' and horizon 0"),
        ({"horizon": 1, "event": None}, "together, got event '' and horizon 1"),
        ({"horizon": -1}, "at least 0, got -1"),
    ],
)
def test_a_horizon_needs_an_event_and_the_reverse(keywords, words):
    with pytest.raises(InputRefusedError, match=words):
        make_task("classification", **{"target": "days", "event": "event", **keywords})


def test_probabilities_rank_two_classes_and_no_more():
    task = year(horizon=200.5).fit(["yes", "no", "no"])
    outputs = np.array([[0.0, 0.0], [0.0, np.log(3)]])
    np.testing.assert_allclose(task.score_higher(outputs), [1 / 2, 3 / 4])
    three = make_task("classification", target="grade").fit([1, 2, 3])
    with pytest.raises(InputRefusedError, match=r"wanted 2 classes .* got 1, 2, 3"):
        three.score_higher(np.zeros((1, 3)))


def test_balanced_classes_have_the_same_say():
    task = make_task("classification", target="sex", balance=True)
    task = task.fit(["F"] * 3 + ["M"])
    outputs = jnp.log(jnp.array([[0.9, 0.1]] * 3 + [[0.4, 0.6]]))
    targets, weights = map(jnp.asarray, task.encode(["F"] * 3 + ["M"]))
    want = -(np.log(0.9) + np.log(0.6)) / 2
    np.testing.assert_allclose(task.loss(outputs, targets, weights), want, rtol=1e-6)


def test_a_stated_class_that_training_lacks_has_an_output():
    task = make_task("classification", target="sequence", classes="T1w,T2w,FLAIR")
    task = task.fit(["T1w", "FLAIR", "FLAIR"])
    assert (task.classes, task.counts) == (("T1w", "T2w", "FLAIR"), (1, 0, 2))
    assert np.isfinite(task.constant).all()
    assert task.decode(task.constant[None]) == ["FLAIR"]
    balanced = make_task("classification", target="s", classes="a,b,c", balance=True)
    targets, weights = map(jnp.asarray, balanced.fit(["a", "b"]).encode(["a", "c"]))
    assert np.isfinite(
        balanced.fit(["a", "b"]).loss(jnp.ones((2, 3)), targets, weights)
    )


def bins(**keywords):
    task = make_task("regression", target="age", loss="bins", **keywords)
    return task.fit([20, 40.0, None, 60])


@pytest.mark.parametrize("keywords", [{}, {"bins": 10, "spread": 5.0}])
def test_bins_answer_with_the_mean_of_their_distribution(keywords):
    task = bins(**keywords)
    assert task.outputs == keywords.get("bins", 40)
    ages = np.array([20.0, 33.3, 60.0])
    targets, _ = task.encode(ages.tolist())
    centres, spread = task._centres()
    outputs = -(((targets[:, None] - centres) / spread) ** 2) / 2
    answers = task.decode(outputs)
    np.testing.assert_allclose(answers, ages, atol=0.06 * task.spread)
    np.testing.assert_allclose(task.answer(jnp.asarray(outputs)), answers, rtol=1e-6)
    np.testing.assert_allclose(task.decode(task.constant[None]), [40], rtol=1e-4)


def test_bins_are_as_wide_as_their_spread_unless_it_is_stated():
    task = bins()
    width = (task.ends[1] - task.ends[0]) / 39
    np.testing.assert_allclose(task.spread, width)
    with pytest.raises(InputRefusedError, match="at least half a bin"):
        bins(bins=10, spread=1.0)


def test_bins_learn_a_line_by_their_slope():
    task, ages = bins(bins=10), [20.0, 40.0, 60.0]
    targets, weights = map(jnp.asarray, task.encode(ages))
    step = jax.jit(jax.grad(task.loss))
    outputs = jnp.zeros((3, 10))
    for _ in range(200):
        outputs -= 3 * step(outputs, targets, weights)
    np.testing.assert_allclose(task.decode(outputs), ages, atol=2)


@pytest.mark.parametrize("limits", [(5,), (5, 5), (9, 1), "a,b", (1, 2, 3)])
def test_a_range_goes_from_low_to_high(limits):
    with pytest.raises(InputRefusedError, match="low, high"):
        make_task("regression", target="age", range=limits)


AUTO = [
    (["a", "b", None], Classification),
    ([True, False], Classification),
    ([1, 2, 3.0, 2], Classification),
    ([*range(10)], Classification),
    ([*range(11)], Regression),
    ([0.5, 1.0, None], Regression),
]


@pytest.mark.parametrize(("values", "kind"), AUTO)
def test_any_column_is_the_task_of_its_values(values, kind):
    task = make_task("auto", target="thing")
    assert task.columns_read == ("thing",)
    learnt = task.fit(task.values({"thing": values}.__getitem__))
    assert isinstance(learnt, kind)
    assert learnt == make_task(learnt.name, target="thing").fit(values)


def test_there_is_no_automatic_survival():
    with pytest.raises(InputRefusedError, match="one of target, unit, got 'event'"):
        make_task("auto", target="days", event="event")


def test_none_is_the_task_s_own_default():
    task = make_task("regression", target="age", unit=None, loss=None, event=None)
    assert task == make_task("regression", target="age")


@pytest.mark.parametrize(
    "task",
    [
        fitted(),
        fitted(loss="discrete", covariates=("age",)),
        year(horizon=200.5, loss="focal", balance=True).fit(["yes", "no", "no"]),
        bins(),
        make_task("regression", target="age", loss="l1"),
    ],
)
def test_tasks_of_all_kinds_survive_json(task):
    again = task_from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert hash(again) == hash(task)


def test_a_task_of_an_older_file_takes_defaults_and_a_newer_one_is_refused():
    old = {"name": "classification", "target": "sex", "unit": "class"}
    old |= {"classes": ["F", "M"], "counts": [2, 1]}
    want = make_task("classification", target="sex").fit(["F", "M", "F"])
    assert task_from_dict(old) == want
    with pytest.raises(InputRefusedError, match="got 'colour'"):
        task_from_dict({**old, "colour": 1})


@pytest.mark.parametrize("keywords", [{}, {"loss": "discrete"}])
def test_batches_of_sixteen_learn_to_rank_by_the_true_hazard(keywords):
    # The C-index of the true hazard is the most that anything can attain.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 4)).astype(np.float32)
    x[:, 3] = 1  # an intercept, which the hazards of intervals need
    hazard = x @ [1.0, -0.5, 0.25, 0.0]
    times, lost = rng.exponential(np.exp(-hazard)), rng.exponential(2, 1200)
    seen = np.ceil(20 * np.minimum(times, lost))  # tied, like days
    values = list(zip(seen.tolist(), (times <= lost).tolist(), strict=True))
    task = survival(**keywords).fit(values[:800])
    targets, weights = map(jnp.asarray, task.encode(values))

    def loss(weights_of, rows):
        return task.loss(x[rows] @ weights_of, targets[rows], weights[rows])

    @jax.jit
    def learn(start, batches):
        step = lambda at, rows: (at - 0.05 * jax.grad(loss)(at, rows), None)  # noqa: E731
        return jax.lax.scan(step, start, batches)[0]

    x = jnp.asarray(x)
    batches = rng.permuted(np.tile(np.arange(800), (10, 1)), axis=1).reshape(-1, 16)
    learnt = learn(jnp.zeros((4, task.outputs)), jnp.asarray(batches))
    test = slice(800, None)
    risks = task.risk(np.asarray(x[test] @ learnt))
    events = np.array([event for _, event in values[test]])
    got, best = (
        concordance_index_censored(events, seen[test], risk)[0]
        for risk in (risks, hazard[test])
    )
    assert best > 0.7
    assert got > best - 0.01, (got, best)
