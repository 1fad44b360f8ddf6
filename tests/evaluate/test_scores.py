"""Scores of tasks, and the baselines they are read against."""

import math

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import score, score_baseline
from brainjax.tasks import make_task

AGE = make_task("regression", target="age").fit([20, 40, 60])
SEX = make_task("classification", target="sex").fit(["F", "F", "M"])


def test_regression_is_scored_in_units_on_the_labelled():
    values = [30, None, 50.0, 70]
    encoded, _ = AGE.encode([32, 0, 49, 70])
    got = score(AGE, encoded[:, None], values, ["a", "b", "c", "d"])
    assert list(got) == ["mae", "rmse", "r2", "pearson"]
    assert got["mae"].value == pytest.approx(1.0, rel=1e-5)
    assert got["mae"].n == 3


def test_a_class_never_seen_counts_as_wrong_but_not_in_the_auc():
    outputs = np.array([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [9.0, 9.0]])
    got = score(SEX, outputs, ["F", "M", "X", None], "abcd")
    assert list(got) == ["accuracy", "balanced_accuracy", "auc"]
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


@pytest.mark.parametrize("task", [AGE, SEX], ids=["regression", "classification"])
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
