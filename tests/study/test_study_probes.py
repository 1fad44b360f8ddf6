"""Probes: their penalty is chosen in training alone, and they equal plain models."""

import numpy as np
import pytest

from brainjax.study.probes import partial_likelihood, probe_outputs, turn
from brainjax.tasks import make_task


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * 3 + 7


def test_turned_features_keep_every_product():
    x, z = features(6, 20), features(4, 20, 1)
    found = turn(x, z)
    assert found.train.shape[1] <= 6
    plain = (x - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(found.train @ found.train.T, plain @ plain.T, atol=1e-9)


def test_ridge_equals_ridge_on_all_features():
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    from brainjax.study.probes import PENALTIES

    x, z = features(30, 50), features(10, 50, 1)
    ages = (40 + 3 * x[:, 0] + np.random.default_rng(2).normal(size=30)).tolist()
    task = make_task("regression", target="age").fit(ages)
    found = probe_outputs(task, x, ages, list(range(30)), z)
    scale = StandardScaler().fit(x)
    model = RidgeCV(alphas=PENALTIES).fit(scale.transform(x), task.encode(ages)[0])
    np.testing.assert_allclose(
        found[:, 0], model.predict(scale.transform(z)), atol=1e-6
    )


@pytest.mark.parametrize("per_class", [1, 5])
def test_a_probe_learns_from_one_case_a_class(per_class):
    words = ["F", "M"] * per_class
    x = features(2 * per_class, 30)
    x[1::2] += 20
    task = make_task("classification", target="sex").fit(words)
    outputs = probe_outputs(task, x, words, list(range(len(words))), x)
    assert task.decode(outputs) == words


def test_a_class_that_training_lacks_is_never_the_answer():
    words = ["a", "b"] * 4
    task = make_task("classification", target="x", classes=("a", "b", "c")).fit(words)
    x = features(8, 5)
    outputs = probe_outputs(task, x, words, list(range(8)), x)
    assert outputs.shape == (8, 3)
    assert "c" not in task.decode(outputs)


def test_cox_ranks_by_the_hazard():
    draw = np.random.default_rng(0)
    x = features(60, 80)
    x[:, 0] = draw.normal(size=60)
    times = draw.exponential(np.exp(-2 * x[:, 0])) * 100 + 1
    values = [(float(t), bool(draw.random() < 0.7)) for t in times]
    task = make_task("survival", target="days", event="event").fit(values)
    outputs = probe_outputs(task, x, values, list(range(60)), x)
    assert np.corrcoef(outputs[:, 0], x[:, 0])[0, 1] > 0.5


def test_the_partial_likelihood_equals_lifelines():
    from lifelines import CoxPHFitter
    from pandas import DataFrame

    draw = np.random.default_rng(0)
    x, times = draw.normal(size=25), draw.permutation(25) + 1.0
    events = draw.random(25) < 0.6
    table = DataFrame({"x": x, "t": times, "e": events})
    model = CoxPHFitter().fit(table, "t", "e")
    risks = (x * model.params_["x"]).astype(float)
    wanted = model.log_likelihood_
    assert partial_likelihood(risks, times, events) == pytest.approx(wanted, abs=1e-4)


def test_scans_of_a_subject_stay_in_one_fold_of_the_penalty():
    # Twelve subjects, five equal scans each: leaving one scan out would see its twins
    # and choose no penalty at all for labels that are noise.
    draw = np.random.default_rng(0)
    x = np.repeat(features(12, 100), 5, axis=0)
    ages = np.repeat(draw.normal(size=12), 5).tolist()
    task = make_task("regression", target="score").fit(ages)
    subjects = np.repeat(np.arange(12), 5).tolist()
    outputs = probe_outputs(task, x, ages, subjects, features(50, 100, 1))
    assert np.abs(outputs).max() < 0.2
