"""Calibration: the curve is scikit-learn's, and one temperature mends what is bent."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from brainjax.evaluate.calibration import LIMIT, ece, fit_temperature, reliability

RNG = np.random.default_rng(0)


def labelled(n: int, k: int, *, temperature: float, seed: int = 0):
    """Logits that are too sure by a factor, and classes of the right ones."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0, 1.5, (n, k))
    codes = np.array([rng.choice(k, p=row) for row in softmax(right, axis=1)])
    return right * temperature, codes


def plain_ece(stated, true, bins):
    total = 0.0
    for low, high in pairwise(bins):
        rows = (stated > low) & (stated <= high) | (low == 0) & (stated == 0)
        if rows.any():
            total += rows.sum() * abs(stated[rows].mean() - true[rows].mean())
    return total / len(stated)


def test_of_two_classes_the_curve_is_that_of_the_reference():
    logits, codes = labelled(200, 2, temperature=2)
    probabilities = softmax(logits, axis=1)
    happened, stated = calibration_curve(codes, probabilities[:, 1], n_bins=10)
    got = reliability(probabilities, codes)
    np.testing.assert_allclose(got.happened, happened)
    np.testing.assert_allclose(got.stated, stated)
    assert sum(got.count) == 200


@pytest.mark.parametrize("k", [2, 4])
def test_ece_is_the_plain_mean_over_bins(k):
    logits, codes = labelled(150, k, temperature=3)
    probabilities = softmax(logits, axis=1)
    if k == 2:
        stated, true = probabilities[:, 1], codes == 1
    else:
        stated, true = probabilities.max(1), probabilities.argmax(1) == codes
    got = ece(probabilities, codes, range(150))
    assert got.value == pytest.approx(plain_ece(stated, true, np.linspace(0, 1, 11)))
    assert got.low < got.high


def test_edges_belong_to_the_lower_bin_and_nothing_is_lost():
    probabilities = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    got = reliability(probabilities, np.array([0, 0, 1, 1]))
    assert got.count == [2, 1, 1]
    assert ece(probabilities, np.array([0, 0, 1, 1]), range(4), samples=0).value > 0


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_finds_the_factor_and_lowers_the_loss(k, factor):
    logits, codes = labelled(4000, k, temperature=factor)
    found = fit_temperature(logits, codes)
    assert found == pytest.approx(factor, rel=0.1)
    held, truth = labelled(4000, k, temperature=factor, seed=1)
    before, after = (softmax(held / t, axis=1) for t in (1.0, found))
    assert log_loss(truth, after) <= log_loss(truth, before) + 1e-3
    if factor != 1:
        assert ece(after, truth, range(4000), samples=0).value < 0.03


@pytest.mark.parametrize("right", [True, False])
def test_three_scans_that_agree_make_nothing_certain(right):
    codes = np.array([0, 1, 0]) if right else np.array([1, 0, 1])
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    found = fit_temperature(logits, codes)
    assert (0.3 < found < 1) if right else (1 < found < LIMIT)


@pytest.mark.parametrize(
    ("logits", "codes"),
    [
        (np.zeros((0, 2)), []),
        (np.ones((2, 2)), [-1, -1]),
        (np.array([[np.nan, 1.0]]), [0]),
    ],
    ids=["no scan", "classes never seen", "not finite"],
)
def test_without_anything_to_learn_from_probabilities_stay(logits, codes):
    assert fit_temperature(logits, np.array(codes, int)) == 1.0


def test_ece_of_what_is_not_finite_or_nothing_is_nan():
    assert math.isnan(ece(np.zeros((0, 2)), np.zeros(0, int), []).value)
    broken = np.array([[np.nan, np.nan], [0.5, 0.5]])
    assert math.isnan(ece(broken, np.array([0, 1]), range(2)).value)
