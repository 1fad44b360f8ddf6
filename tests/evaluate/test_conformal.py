"""Intervals and sets hold the truth as often as they say, by simulation."""

import math

import numpy as np
import pytest
from scipy.special import softmax

from brainjax.evaluate.conformal import class_scores, class_sets, conformal_quantile


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("n", [9, 40])
def test_a_new_scan_is_under_the_quantile_as_often_as_said(coverage, n):
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(4000, n + 1))
    under = [row[n] <= conformal_quantile(row[:n], coverage=coverage) for row in scores]
    exact = math.ceil((n + 1) * coverage) / (n + 1)
    assert np.mean(under) == pytest.approx(exact, abs=0.02)
    assert exact >= coverage


def test_a_new_subject_is_covered_where_some_have_many_scans():
    rng = np.random.default_rng(0)
    counts = np.array([1] * 15 + [20] * 4)
    under = []
    for _ in range(3000):
        levels = rng.exponential(size=20)
        levels[15:19] *= 0.2  # those who come often are the easy ones
        groups = np.repeat(np.arange(19), counts)
        new = levels[19] * (0.2 if rng.random() < 4 / 19 else 1)
        quantile = conformal_quantile(levels[groups], groups)
        under.append(new <= quantile)
    assert np.mean(under) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_one_scan_a_subject_is_the_order_statistic(seed):
    scores = np.random.default_rng(seed).normal(size=30)
    want = np.sort(scores)[math.ceil(31 * 0.9) - 1]
    assert conformal_quantile(scores) == want
    assert conformal_quantile(np.repeat(scores, 3), np.repeat(range(30), 3)) == want


@pytest.mark.parametrize(("coverage", "least"), [(0.9, 9), (0.95, 19), (0.8, 4)])
def test_too_few_subjects_have_no_quantile(coverage, least):
    scores = np.arange(float(least))
    assert conformal_quantile(scores, coverage=coverage) == least - 1
    assert math.isnan(conformal_quantile(scores[:-1], coverage=coverage))
    together = np.repeat(range(least - 1), 50)
    assert math.isnan(conformal_quantile(together * 1.0, together, coverage=coverage))
    assert math.isnan(conformal_quantile(np.zeros(0)))


@pytest.mark.parametrize("k", [2, 5])
def test_sets_hold_the_truth_as_often_as_said(k):
    rng = np.random.default_rng(k)
    held = []
    for _ in range(400):
        logits = rng.normal(0, 1.5, (60, k))
        codes = np.array([rng.choice(k, p=row) for row in softmax(logits, axis=1)])
        stated = softmax(3 * logits, axis=1)  # far too sure, and covered all the same
        scores = class_scores(stated[:40], codes[:40])
        sets = class_sets(stated[40:], conformal_quantile(scores))
        held.append(sets[np.arange(20), codes[40:]].mean())
    assert 0.89 < np.mean(held) < 0.95


def test_a_set_always_holds_the_answer():
    probabilities = np.array([[0.4, 0.3, 0.3], [0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(
        class_sets(probabilities, 0.0), [[True, False, False], [False, True, False]]
    )
    assert class_sets(probabilities, 1.0).all()


def test_a_class_never_seen_is_as_improbable_as_can_be():
    got = class_scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([-1, 1]))
    np.testing.assert_allclose(got, [1.0, 0.2])
