"""Scores of tasks, and the baselines they are read against."""

import math
import time

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import score, score_baseline
from brainjax.tasks import make_task

AGE = make_task("regression", target="age").fit([20, 40, 60])
SEX = make_task("classification", target="sex").fit(["F", "F", "M"])
FOLLOWED = [(10.0 + i, i % 3 > 0) for i in range(40)]
DEATH = make_task("survival", target="days", event="died").fit(FOLLOWED)


def test_regression_is_scored_in_units_on_the_labelled():
    values = [30, None, 50.0, 70]
    encoded, _ = AGE.encode([32, 0, 49, 70])
    got = score(AGE, encoded[:, None], values, ["a", "b", "c", "d"])
    assert list(got) == ["mae", "rmse", "r2", "pearson", "bias_slope"]
    assert got["mae"].value == pytest.approx(1.0, rel=1e-5)
    assert got["mae"].n == 3


def test_a_class_never_seen_counts_as_wrong_but_not_in_the_auc():
    outputs = np.array([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [9.0, 9.0]])
    got = score(SEX, outputs, ["F", "M", "X", None], "abcd")
    assert list(got) == [
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
        *("auc", "auc_delong", "ece"),
    ]
    assert got["accuracy"].value == pytest.approx(2 / 3)
    assert got["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert (got["auc"].value, got["auc"].n) == (1.0, 2)


def test_baselines_answer_what_training_knew():
    name, got = score_baseline(AGE, [30, 60, None], "abc")
    assert name == "training mean"
    assert got["mae"].value == pytest.approx(15.0)
    assert math.isnan(got["pearson"].value)
    name, got = score_baseline(SEX, ["M", "M", "F", None], "abcd")
    assert name == "most frequent class"
    assert got["accuracy"].value == pytest.approx(1 / 3)
    assert got["auc"].value == 0.5
    name, got = score_baseline(DEATH, FOLLOWED, range(40))
    assert name == "equal risks"
    assert got["c_index"].value == 0.5
    assert math.isnan(got["hazard_ratio"].value)


@pytest.mark.parametrize("task", [AGE, SEX, DEATH], ids=lambda task: task.name)
@pytest.mark.parametrize("values", [[], [None, None]])
def test_without_labels_there_is_no_score(task, values):
    outputs = np.zeros((len(values), task.outputs))
    for metric in score(task, outputs, values, "ab"[: len(values)]).values():
        assert math.isnan(metric.value)
        assert metric.n == 0
    assert score_baseline(task, values, "ab"[: len(values)])[0]


def test_labels_of_another_type_are_refused():
    with pytest.raises(InputRefusedError, match="'age'"):
        score(AGE, np.zeros((1, 1)), ["old"], ["a"])


def test_a_survival_task_is_scored_on_those_whose_follow_up_is_known():
    risks = -np.arange(41.0)[:, None]
    got = score(DEATH, risks, [*FOLLOWED, None], range(41))
    assert list(got) == [
        *("c_index", "c_index_uno", "auc_t25", "auc_t50", "auc_t75", "hazard_ratio"),
    ]
    assert got["c_index"][:2] == (1.0, 1.0)
    assert all(metric.n == 40 for metric in got.values())


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("task", [AGE, SEX, DEATH], ids=lambda task: task.name)
def test_few_scans_or_one_class_have_numbers_or_nan_and_no_warning(task, n):
    values = {"age": [30.0] * n, "sex": ["F"] * n, "days": [(3.0, False)] * n}
    outputs = np.ones((n, task.outputs))
    for metric in score(task, outputs, values[task.target], range(n)).values():
        assert metric.n == n
        assert math.isnan(metric.value) or abs(metric.value) < 100


def test_two_hundred_followed_take_less_than_five_seconds():
    rng = np.random.default_rng(0)
    values = [
        (float(t), bool(e))
        for t, e in zip(rng.random(200), rng.random(200) < 0.6, strict=True)
    ]
    start = time.perf_counter()
    score(DEATH, rng.normal(size=(200, 1)), values, range(200))
    assert time.perf_counter() - start < 5
