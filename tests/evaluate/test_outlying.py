"""Unfamiliar scans score high; the threshold is that of leaving each subject out."""

import math

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from brainjax.evaluate.features import join_sequences
from brainjax.evaluate.outlying import _leave_out, fit_reference, outlying_scores

RNG = np.random.default_rng(0)


def cloud(n: int, d: int, seed: int = 0):
    mixing = np.random.default_rng(7).normal(size=(d, d)) * np.linspace(0.1, 3, d)
    return np.random.default_rng(seed).normal(size=(n, d)) @ mixing + 5


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)], ids=["tall", "wide"])
def test_the_score_is_the_mahalanobis_distance_of_the_reference(n, d):
    features, new = cloud(n, d), cloud(5, d, 1)
    scaled = (features - features.mean(0)) / features.std(0)
    covariance, _ = ledoit_wolf(scaled, assume_centered=True)
    deviation = (new - features.mean(0)) / features.std(0)
    squared = np.einsum("ij,jk,ik->i", deviation, np.linalg.inv(covariance), deviation)
    reference = fit_reference(features)
    assert reference is not None
    got = outlying_scores(reference, new)
    np.testing.assert_allclose(got, np.sqrt(squared / d), rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(20, 4), (12, 30)], ids=["tall", "wide"])
@pytest.mark.parametrize("scans", [1, 3])
def test_leaving_a_subject_out_is_fitting_without_it(n, d, scans):
    features = cloud(n, d)
    features = features - features.mean(0)
    groups = np.arange(n) // scans
    shrinkage, rest = 0.2, 0.7
    _, singular, rows = np.linalg.svd(features, full_matrices=False)
    got = _leave_out(features @ rows.T, singular**2, shrinkage, rest, groups)
    for i in range(n):
        others = features[groups != groups[i]]
        covariance = (1 - shrinkage) * np.cov(others.T, bias=True) + rest * np.eye(d)
        deviation = features[i] - others.mean(0)
        want = deviation @ np.linalg.solve(covariance, deviation)
        assert got[i] == pytest.approx(want, rel=1e-6)


def test_one_in_a_hundred_of_the_familiar_is_over_the_threshold():
    reference = fit_reference(cloud(400, 16))
    assert reference is not None
    scores = outlying_scores(reference, cloud(4000, 16, 1))
    assert np.mean(scores > reference.threshold) == pytest.approx(0.01, abs=0.01)


def test_of_ten_scans_hardly_more_than_one_in_eleven_familiar_ones_is_over():
    over = []
    for seed in range(20):
        reference = fit_reference(cloud(10, 60, seed))
        assert reference is not None
        scores = outlying_scores(reference, cloud(100, 60, 100 + seed))
        over.append(np.mean(scores > reference.threshold))
    assert np.mean(over) < 0.15


@pytest.mark.parametrize("n", [10, 200])
def test_what_was_never_seen_is_over_the_threshold(n):
    features = cloud(n, 24)
    features[:, 3] = 1.0  # a unit that is dead in training
    reference = fit_reference(features)
    assert reference is not None
    shifted = cloud(20, 24, 1) + 8 * features.std(0)
    assert (outlying_scores(reference, shifted) > reference.threshold).all()
    revived = features.copy()
    revived[:, 3] = 1 + 40 * features.std(0).max()
    assert (outlying_scores(reference, revived) > reference.threshold).all()
    assert np.isinf(outlying_scores(reference, np.full((1, 24), np.nan))).all()


def test_the_unit_of_a_feature_does_not_matter():
    units = np.logspace(-2, 2, 8)
    reference, other = fit_reference(cloud(50, 8)), fit_reference(cloud(50, 8) * units)
    assert reference is not None
    assert other is not None
    new = cloud(5, 8, 1)
    np.testing.assert_allclose(
        outlying_scores(other, new * units), outlying_scores(reference, new), rtol=1e-6
    )


def test_other_scans_of_a_subject_do_not_make_it_familiar():
    features = np.repeat(cloud(30, 12), 5, axis=0)
    alone, together = (
        fit_reference(features),
        fit_reference(features, np.arange(150) // 5),
    )
    assert alone is not None
    assert together is not None
    assert together.threshold > alone.threshold


@pytest.mark.parametrize(
    "features",
    [np.ones((5, 3)), np.full((5, 3), np.nan), np.ones((1, 3)), np.zeros((0, 3))],
    ids=["equal", "not finite", "one scan", "none"],
)
def test_nothing_to_learn_from_has_no_reference(features):
    assert fit_reference(features) is None


def test_two_subjects_have_scores_and_no_threshold():
    reference = fit_reference(cloud(4, 3), [0, 0, 1, 1])
    assert reference is not None
    assert math.isnan(reference.threshold)
    assert np.isfinite(outlying_scores(reference, cloud(2, 3, 1))).all()


def test_a_missing_sequence_never_counts():
    features = RNG.normal(size=(2, 3, 4))
    features[0, 2] = np.nan
    present = np.array([[True, True, False], [False, False, True]])
    got = join_sequences(features, present)
    np.testing.assert_allclose(got[0], features[0, :2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(got[1], features[1, 2], rtol=1e-6)
