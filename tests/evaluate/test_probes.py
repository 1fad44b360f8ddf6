"""Probes read what features hold, and nothing where there is nothing."""

import numpy as np
import pytest

from brainjax.evaluate import probe_metrics, probe_predictions, probe_scores

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6))
Y = [float(value) for value in 50 + 10 * X[:, 0]]
SEX = ["F" if value > 0 else "M" for value in X[:, 1]]
FIT, HELD = slice(0, 80), slice(80, 120)


def test_numbers_are_regressed():
    got = probe_scores(X[FIT], Y[FIT], X[HELD], Y[HELD])
    assert list(got) == ["ridge_mae", "ridge_r2", "knn_mae"]
    assert got["ridge_r2"] > 0.99
    assert got["ridge_mae"] < got["knn_mae"] < np.mean(np.abs(np.array(Y) - 50))


def test_words_are_classified():
    got = probe_scores(X[FIT], SEX[FIT], X[HELD], SEX[HELD])
    want = ["logistic_balanced_accuracy", "logistic_auc", "knn_balanced_accuracy"]
    assert list(got) == want
    assert got["logistic_auc"] > 0.97
    assert got["knn_balanced_accuracy"] > 0.6


def test_features_of_noise_know_nothing():
    noise = RNG.normal(size=X.shape)
    got = probe_scores(noise[FIT], Y[FIT], noise[HELD], Y[HELD])
    assert got["ridge_r2"] < 0.2


@pytest.mark.parametrize("labels", [Y, SEX], ids=["numbers", "words"])
def test_metrics_are_the_scores_with_intervals(labels):
    parts = (X[FIT], labels[FIT], X[HELD], labels[HELD])
    scores = probe_scores(*parts)
    found = probe_metrics(*parts, subjects=[i // 2 for i in range(40)])
    assert {name: metric.value for name, metric in found.items()} == scores
    assert all(m.low <= m.value <= m.high and m.n == 20 for m in found.values())


@pytest.mark.parametrize("labels", [Y, SEX], ids=["numbers", "words"])
def test_scans_without_a_label_are_left_out(labels):
    want = probe_scores(X[:60], labels[:60], X[80:100], labels[80:100])
    train, test = labels[:60] + [None] * 20, labels[80:100] + [None] * 20
    assert probe_scores(X[FIT], train, X[HELD], test) == want


def test_the_scale_of_a_feature_does_not_matter():
    scaled = X * np.array([1e-3, 1, 10, 1, 1e3, 1]) + 5
    got = probe_scores(scaled[FIT], Y[FIT], scaled[HELD], Y[HELD])
    want = probe_scores(X[FIT], Y[FIT], X[HELD], Y[HELD])
    assert got == pytest.approx(want, rel=1e-6)


def test_predictions_have_a_row_for_every_scan():
    got = probe_predictions(X[FIT], Y[FIT], X[HELD])
    assert {name: len(answers) for name, answers in got.items()} == {
        "ridge": 40,
        "knn": 40,
    }
    got = probe_predictions(X[FIT], SEX[FIT], X[HELD])
    assert {name: set(answers) for name, answers in got.items()} == {
        "logistic": {"F", "M"},
        "knn": {"F", "M"},
    }


def test_two_labels_are_enough():
    assert len(probe_scores(X[:2], [1.0, 2.0], X[HELD], Y[HELD])) == 3
    assert len(probe_scores(X[:2], ["F", "M"], X[HELD], SEX[HELD])) == 3


def test_a_class_that_training_never_saw_is_wrong():
    held = ["X" if i % 2 else name for i, name in enumerate(SEX[HELD])]
    got = probe_scores(X[FIT], SEX[FIT], X[HELD], held)
    assert got["logistic_balanced_accuracy"] < 0.7
    assert got["logistic_auc"] > 0.97


NOTHING = {
    "no training label": ([None] * 80, Y[HELD]),
    "one training label": ([1.0] + [None] * 79, Y[HELD]),
    "one training value": ([1.0] * 80, Y[HELD]),
    "one class": (["F"] * 80, SEX[HELD]),
    "numbers among words": ([*SEX[:79], 1.0], SEX[HELD]),
    "no test label": (Y[FIT], [None] * 40),
    "another type in the test": (Y[FIT], SEX[HELD]),
}


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_to_fit_or_score_gives_nothing(case):
    train, test = NOTHING[case]
    assert probe_scores(X[FIT], train, X[HELD], test) == {}
    assert probe_metrics(X[FIT], train, X[HELD], test, range(40)) == {}


def test_features_that_are_not_finite_give_nothing():
    broken = X[FIT].copy()
    broken[3, 2] = np.nan
    assert probe_scores(broken, Y[FIT], X[HELD], Y[HELD]) == {}
    assert probe_predictions(broken, Y[FIT], X[HELD]) == {}
    assert probe_scores(X[FIT], Y[FIT], np.zeros((0, 0)), []) == {}
