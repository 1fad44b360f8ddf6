"""Metrics are scikit-learn's; intervals are over subjects."""

import math
import time

import numpy as np
import pytest
from sklearn import metrics as reference

from brainjax.evaluate import metrics

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(50, 15, 80)
ANSWERS = TRUTH + RNG.normal(2, 8, 80)
SUBJECTS = np.arange(80) // 2
CLASSES = np.array(["a", "b", "c"])
NAMES = CLASSES[RNG.integers(0, 3, 80)]
GIVEN = np.where(RNG.random(80) < 0.6, NAMES, CLASSES[RNG.integers(0, 3, 80)])


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mae", reference.mean_absolute_error),
        ("rmse", reference.root_mean_squared_error),
        ("r2", reference.r2_score),
        ("pearson", lambda t, a: np.corrcoef(t, a)[0, 1]),
    ],
)
def test_numbers_agree_with_the_reference(name, theirs):
    got = getattr(metrics, name)(TRUTH, ANSWERS, SUBJECTS)
    assert got.value == pytest.approx(theirs(TRUTH, ANSWERS), rel=1e-12)
    assert got.low < got.value < got.high
    assert got.n == 40


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("accuracy", reference.accuracy_score),
        ("balanced_accuracy", reference.balanced_accuracy_score),
    ],
)
def test_classes_agree_with_the_reference(name, theirs):
    got = getattr(metrics, name)(NAMES, GIVEN, SUBJECTS)
    assert got.value == pytest.approx(theirs(NAMES, GIVEN), rel=1e-12)
    assert got.low < got.value < got.high


def test_auc_agrees_with_the_reference_also_with_ties():
    truth = RNG.integers(0, 2, 80)
    scores = np.round(truth + RNG.normal(0, 1, 80), 1)
    assert len(np.unique(scores)) < 80
    want = reference.roc_auc_score(truth, scores)
    got = metrics.auc(truth, scores, SUBJECTS, (0, 1))
    assert got.value == pytest.approx(want, rel=1e-12)
    assert got.low < got.value < got.high
    both = np.stack([-scores, scores], axis=1)
    assert metrics.auc(truth, both, SUBJECTS, (0, 1)) == got


def test_auc_of_several_classes_is_the_macro_mean_of_one_against_the_rest():
    scores = RNG.random((80, 3)) + (NAMES[:, None] == CLASSES)
    scores /= scores.sum(1, keepdims=True)
    want = reference.roc_auc_score(NAMES, scores, multi_class="ovr")
    got = metrics.auc(NAMES, scores, SUBJECTS, list(CLASSES))
    assert got.value == pytest.approx(want, rel=1e-12)


def weighted_twin(truth, answers, subjects, function):
    """The plain bootstrap: the same draws, scans repeated one by one."""
    n = len(set(subjects))
    counts = np.random.default_rng(metrics.SEED).multinomial(
        n, np.full(n, 1 / n), size=200
    )
    rows = [np.repeat(np.arange(len(truth)), c[subjects]) for c in counts]
    return np.percentile([function(truth[r], answers[r]) for r in rows], [2.5, 97.5])


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mae", reference.mean_absolute_error),
        ("r2", reference.r2_score),
        ("pearson", lambda t, a: np.corrcoef(t, a)[0, 1]),
    ],
)
def test_the_interval_equals_the_plain_bootstrap(name, theirs):
    got = getattr(metrics, name)(TRUTH, ANSWERS, SUBJECTS, samples=200)
    want = weighted_twin(TRUTH, ANSWERS, SUBJECTS, theirs)
    np.testing.assert_allclose([got.low, got.high], want, rtol=1e-9)


def test_the_auc_interval_equals_the_plain_bootstrap():
    truth = (TRUTH > 50).astype(int)
    scores = np.round(ANSWERS + RNG.normal(0, 15, 80))
    got = metrics.auc(truth, scores, SUBJECTS, (0, 1), samples=200)
    want = weighted_twin(truth, scores, SUBJECTS, reference.roc_auc_score)
    np.testing.assert_allclose([got.low, got.high], want, rtol=1e-9)


def test_the_interval_of_a_class_metric_equals_the_plain_bootstrap():
    got = metrics.balanced_accuracy(NAMES, GIVEN, SUBJECTS, samples=200)
    want = weighted_twin(NAMES, GIVEN, SUBJECTS, reference.balanced_accuracy_score)
    np.testing.assert_allclose([got.low, got.high], want, rtol=1e-9)


def test_repeating_the_scans_of_a_subject_does_not_narrow_the_interval():
    once = metrics.mae(TRUTH, ANSWERS, np.arange(80))
    again = metrics.mae(np.tile(TRUTH, 9), np.tile(ANSWERS, 9), np.tile(range(80), 9))
    np.testing.assert_allclose(again, once)


def test_scans_without_a_subject_are_their_own():
    got = metrics.mae(TRUTH, ANSWERS, [None, ""] * 40)
    assert got == metrics.mae(TRUTH, ANSWERS, range(80))


def test_memory_does_not_change_the_draws(monkeypatch):
    whole = metrics.mae(TRUTH, ANSWERS, SUBJECTS)
    monkeypatch.setattr(metrics, "CELLS", 1000)
    np.testing.assert_allclose(metrics.mae(TRUTH, ANSWERS, SUBJECTS), whole)


def test_paired_difference_has_the_sign_of_a_minus_b():
    errors = np.abs(ANSWERS - TRUTH)
    got = metrics.paired_difference(errors, errors + 1, SUBJECTS)
    np.testing.assert_allclose(got[:3], -1)
    assert got.n == 40


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        error = rng.normal(1, 1, 60)
        got = metrics.paired_difference(error, np.zeros(60), range(60), samples=400)
        hits += got.low < 1 < got.high
    assert 0.89 < hits / 200 < 0.99


UNDEFINED = {
    "no scan": lambda: metrics.mae([], [], []),
    "no class": lambda: metrics.balanced_accuracy([], [], []),
    "no score": lambda: metrics.auc([], np.zeros((0, 2)), [], "ab"),
    "one truth": lambda: metrics.r2([1], [2], ["a"]),
    "constant truth": lambda: metrics.r2([0.1] * 3, [1, 2, 3], "abc"),
    "constant answers": lambda: metrics.pearson([1, 2, 3], [0.1] * 3, "abc"),
    "one class": lambda: metrics.balanced_accuracy("aa", "ab", "xy"),
    "a class missing": lambda: metrics.auc("aa", [0.1, 0.2], "xy", "ab"),
    "a score that is NaN": lambda: metrics.auc("ab", [0.1, np.nan], "xy", "ab"),
    "an answer that is NaN": lambda: metrics.mae([1, 2], [1, np.nan], "xy"),
    "an answer that is infinite": lambda: metrics.pearson([1, 2], [1, np.inf], "xy"),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_what_is_undefined_is_nan_without_a_warning(case):
    assert all(math.isnan(number) for number in UNDEFINED[case]()[:3])


def test_one_subject_has_a_value_and_no_interval():
    value, low, high, n = metrics.mae([1, 2], [2, 4], ["a", "a"])
    assert (value, n) == (1.5, 1)
    assert math.isnan(low)
    assert math.isnan(high)


def test_six_hundred_scans_take_less_than_a_second():
    truth = RNG.integers(0, 2, 600)
    start = time.perf_counter()
    metrics.auc(truth, RNG.random(600), range(600), (0, 1))
    assert time.perf_counter() - start < 1
