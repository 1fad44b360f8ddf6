"""Precision, recall, F1 are scikit-learn's; DeLong's interval is the formula's."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from brainjax.evaluate import classification as ours
from brainjax.evaluate.metrics import auc

RNG = np.random.default_rng(0)
CLASSES = ("a", "b", "c")
TRUTH = np.array(CLASSES)[RNG.integers(0, 3, 60)]
GIVEN = np.where(RNG.random(60) < 0.5, TRUTH, np.array(CLASSES)[RNG.integers(0, 3, 60)])
NAMES = {
    "precision": reference.precision_score,
    "recall": reference.recall_score,
    "f1": reference.f1_score,
}
FOLDS = {
    "many": (TRUTH, GIVEN),
    "a class never answered": (TRUTH, np.where(GIVEN == "c", "a", GIVEN)),
    "a class missing from the truth": (np.where(TRUTH == "c", "a", TRUTH), GIVEN),
    "one class": (np.full(4, "a"), np.array(["a", "b", "b", "a"])),
    "three scans": (TRUTH[:3], GIVEN[:3]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fold", FOLDS)
def test_of_many_classes_the_macro_mean_is_that_of_the_reference(name, fold):
    truth, given = FOLDS[fold]
    got = getattr(ours, name)(truth, given, range(len(truth)), CLASSES)
    want = NAMES[name](truth, given, average="macro", zero_division=0)
    assert got.value == pytest.approx(want, rel=1e-12)
    assert got.low <= got.value <= got.high


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fold", FOLDS)
def test_of_two_classes_the_second_is_the_positive_one(name, fold):
    truth, given = (np.where(part == "b", "b", "a") for part in FOLDS[fold])
    got = getattr(ours, name)(truth, given, range(len(truth)), ("a", "b"))
    want = NAMES[name](truth, given, pos_label="b", zero_division=np.nan)
    assert got.value == pytest.approx(want, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_undefined_is_nan_without_a_warning(name):
    measure = getattr(ours, name)
    assert math.isnan(measure("aaa", "aaa", "xyz", "ab").value)
    assert math.isnan(measure([], [], [], CLASSES).value)


def plain_delong(positive, scores):
    """AUC and its variance, pair by pair."""
    above, below = scores[positive], scores[~positive]
    won = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    rows, columns = won.mean(1), won.mean(0)
    variance = rows.var(ddof=1) / len(above) + columns.var(ddof=1) / len(below)
    return won.mean(), variance, rows, columns


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [12, 80])
def test_delong_is_the_formula_and_its_area_the_reference(tied, n):
    positive = np.arange(n) % 3 == 0
    scores = positive + RNG.normal(0, 1, n)
    scores = np.round(scores) if tied else scores
    area, variance, *_ = plain_delong(positive, scores)
    got = ours.delong(positive, scores, range(n))
    assert got.value == pytest.approx(reference.roc_auc_score(positive, scores))
    assert got.value == pytest.approx(area)
    assert got.high == pytest.approx(min(1, area + 1.959964 * variance**0.5))
    assert got.low == pytest.approx(area - 1.959964 * variance**0.5)


def test_the_paired_test_is_the_formula():
    positive = np.arange(60) < 25
    a = positive + RNG.normal(0, 1, 60)
    b = a + RNG.normal(0, 1, 60)
    first, var_a, rows_a, columns_a = plain_delong(positive, a)
    second, var_b, rows_b, columns_b = plain_delong(positive, b)
    both = np.cov(rows_a, rows_b)[0, 1] / 25 + np.cov(columns_a, columns_b)[0, 1] / 35
    error = np.sqrt(var_a + var_b - 2 * both)
    got = ours.delong_test(positive, a, b, range(60))
    assert got.difference == pytest.approx(first - second)
    assert got.p == pytest.approx(2 * stats.norm.sf(abs(first - second) / error))
    assert got.high - got.low == pytest.approx(2 * 1.959964 * error)


def test_repeating_the_scans_of_a_subject_does_not_narrow_delong():
    positive = np.arange(40) % 2 == 0
    scores = positive + RNG.normal(0, 1, 40)
    once = ours.delong(positive, scores, range(40))
    again = ours.delong(np.tile(positive, 5), np.tile(scores, 5), np.tile(range(40), 5))
    np.testing.assert_allclose(again, once)


def test_delong_over_subjects_agrees_with_the_bootstrap_where_both_classes_mix():
    groups = np.repeat(np.arange(60), 4)
    positive = RNG.random(240) < 0.5
    scores = positive + RNG.normal(0, 1, 60)[groups] + RNG.normal(0, 0.5, 240)
    got = ours.delong(positive, scores, groups)
    drawn = auc(positive, scores, groups, (False, True))
    assert got.high - got.low == pytest.approx(drawn.high - drawn.low, rel=0.15)


def test_the_paired_test_is_wrong_as_often_as_it_says():
    rng, wrong = np.random.default_rng(1), 0
    positive = np.arange(60) % 2 == 0
    for _ in range(300):
        shared = positive + rng.normal(0, 1, 60)
        a, b = (shared + rng.normal(0, 0.7, 60) for _ in "ab")
        wrong += ours.delong_test(positive, a, b, range(60)).p < 0.05
    assert 0.02 < wrong / 300 < 0.09


TWO = np.array([True, False, False])
UNDEFINED = {
    "one class": (np.array([True] * 3), np.arange(3.0)),
    "one of a class": (TWO, np.arange(3.0)),
    "classes apart": (np.arange(6) < 3, np.arange(6.0)),
    "a score that is NaN": (np.arange(6) < 3, np.array([1, 2, 3, 4, 5, np.nan])),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_an_interval_that_is_undefined_is_nan(case):
    positive, scores = UNDEFINED[case]
    got = ours.delong(positive, scores, range(len(scores)))
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    found = ours.delong_test(positive, scores, scores, range(len(scores)))
    assert math.isnan(found.p)
