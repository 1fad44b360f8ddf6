"""Scores equal their reference libraries, and weights are the same as copies."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from brainjax.study.scoring import make_statistic, score_of

N = 40


def cases(name: str, seed: int = 0):
    """Truth and answers with ties, and where they apply with censoring."""
    draw = np.random.default_rng(seed)
    answers = draw.integers(0, 12, N).astype(float)
    if name == "mae":
        return draw.normal(size=N).tolist(), answers.tolist()
    if name == "auc":
        return (draw.random(N) < 0.4).astype(int).tolist(), answers.tolist()
    if name == "c_index":
        times, events = draw.integers(1, 15, N), draw.random(N) < 0.6
        pairs = zip(times, events, strict=True)
        return [[float(t), bool(e)] for t, e in pairs], answers.tolist()
    words = np.array(["T1w", "T2w", "FLAIR"])
    return words[draw.integers(0, 3, N)].tolist(), words[
        draw.integers(0, 3, N)
    ].tolist()


def test_scores_equal_the_reference_libraries():
    from sksurv.metrics import concordance_index_censored

    truth, answers = cases("auc")
    assert score_of("auc", truth, answers) == pytest.approx(
        roc_auc_score(truth, answers)
    )
    truth, answers = cases("balanced_accuracy")
    wanted = balanced_accuracy_score(truth, answers)
    assert score_of("balanced_accuracy", truth, answers) == pytest.approx(wanted)
    truth, answers = cases("c_index")
    times, events = np.array([t for t, _ in truth]), np.array([e for _, e in truth])
    wanted = concordance_index_censored(events, times, answers)[0]
    assert score_of("c_index", truth, answers) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["mae", "auc", "balanced_accuracy", "c_index"])
def test_a_weight_is_a_number_of_copies(name):
    truth, answers = cases(name, seed=3)
    weights = np.random.default_rng(1).integers(0, 3, (5, N))
    found = make_statistic(name, truth, answers)(weights.astype(float))
    for value, counts in zip(found, weights, strict=True):
        copies = np.repeat(np.arange(N), counts)
        drawn = [truth[i] for i in copies], [answers[i] for i in copies]
        assert value == pytest.approx(score_of(name, *drawn))


def test_a_score_that_is_undefined_is_nan():
    assert np.isnan(score_of("auc", [1, 1], [0.2, 0.3]))
    assert np.isnan(score_of("c_index", [[3.0, False], [4.0, False]], [1.0, 2.0]))
