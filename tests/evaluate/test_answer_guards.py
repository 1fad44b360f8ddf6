"""Guards add what they promise to answers, and are read back as they were saved."""

import logging
from contextlib import suppress

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import Guards, fit_guards
from brainjax.tasks import make_task

RNG = np.random.default_rng(0)
AGE = make_task("regression", target="age").fit(list(RNG.normal(50, 10, 100)))
SEX = make_task("classification", target="sex").fit(["F", "F", "M"])
FEATURES = RNG.normal(size=(40, 8))
TRUTH = RNG.normal(50, 10, 30)
OUTPUTS = ((TRUTH + RNG.normal(0, 3, 30) - 50) / 10)[:, None]
SEXES = ["F", "M"] * 15
LOGITS = np.array([[2.0, 0.0], [0.0, 2.0]] * 15) + RNG.normal(0, 1, (30, 2))
TASKS = {"regression": (AGE, OUTPUTS, list(TRUTH)), "classes": (SEX, LOGITS, SEXES)}


def fitted(kind: str = "regression", n: int = 30, **words) -> Guards:
    task, outputs, values = TASKS[kind]
    return fit_guards(
        task, outputs[:n], values[:n], FEATURES, checkpoint="abc", **words
    )


def test_a_regression_gets_an_interval_and_a_familiarity():
    got = fitted().columns(AGE, OUTPUTS[:4], FEATURES[:4])
    assert list(got) == [
        *("coverage", "low", "high"),
        *("ood_score", "ood_threshold", "in_distribution"),
    ]
    answers = AGE.decode(OUTPUTS[:4])
    np.testing.assert_allclose(np.add(got["low"], got["high"]) / 2, answers)
    assert got["coverage"] == [0.9] * 4
    assert got["in_distribution"] == ["yes"] * 4
    far = fitted().columns(AGE, OUTPUTS[:1], FEATURES[:1] + 50)
    assert far["in_distribution"] == ["no"]


def test_a_classification_gets_a_set_and_calibrated_probabilities():
    got = fitted("classes").columns(SEX, LOGITS[:5], FEATURES[:5])
    assert list(got)[:4] == [
        *("coverage", "prediction_set", "calibrated_F", "calibrated_M"),
    ]
    np.testing.assert_allclose(np.add(got["calibrated_F"], got["calibrated_M"]), 1)
    for answer, held in zip(SEX.decode(LOGITS[:5]), got["prediction_set"], strict=True):
        assert answer in held.split("|")


def test_intervals_hold_the_truth_as_often_as_said():
    rng, held = np.random.default_rng(2), []
    for _ in range(200):
        truth = rng.normal(50, 10, 60)
        outputs = ((truth + rng.normal(0, 3, 60) - AGE.mean) / AGE.std)[:, None]
        guards = fit_guards(AGE, outputs[:30], list(truth[:30]), FEATURES[:3])
        low, high = guards.interval(AGE, outputs[30:])
        held.append(((low <= truth[30:]) & (truth[30:] <= high)).mean())
    assert 0.88 < np.mean(held) < 0.94


@pytest.mark.parametrize("kind", TASKS)
def test_too_few_validation_scans_have_no_interval_and_a_warning(kind, caplog):
    with caplog.at_level(logging.WARNING, "brainjax"):
        guards = fitted(kind, 8)
    assert (
        "wanted 9 validation subjects or more for 90 % coverage, got 8" in caplog.text
    )
    got = guards.columns(TASKS[kind][0], TASKS[kind][1][:2], FEATURES[:2])
    assert not {"coverage", "low", "prediction_set"} & set(got)
    assert "in_distribution" in got


def test_scans_of_one_subject_count_once(caplog):
    guards = fitted(val_subjects=[i // 5 for i in range(30)])
    assert guards.validated == 6
    assert "got 6" in caplog.text


def test_labels_that_are_missing_or_never_seen_are_no_reason_to_stop():
    values = [None, "X", *SEXES[2:]]
    guards = fit_guards(SEX, LOGITS, values, FEATURES)
    assert guards.validated == 29
    assert 0.1 < guards.temperature < 10
    assert fit_guards(AGE, OUTPUTS, [None] * 30, FEATURES).validated == 0


@pytest.mark.parametrize("kind", TASKS)
def test_what_is_loaded_is_what_was_saved(kind, tmp_path):
    path, guards = tmp_path / "guards.npz", fitted(kind)
    guards.save(path)
    loaded = Guards.load(path, checkpoint="abc")
    task, outputs, _ = TASKS[kind]
    assert loaded.columns(task, outputs, FEATURES[:30]) == guards.columns(
        task, outputs, FEATURES[:30]
    )
    assert (loaded.bias, loaded.validated) == (guards.bias, guards.validated)
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["guards.npz"]


def test_guards_without_a_reference_are_saved_too(tmp_path):
    guards = fit_guards(AGE, OUTPUTS, list(TRUTH), np.ones((4, 3)))
    guards.save(tmp_path / "guards.npz")
    loaded = Guards.load(tmp_path / "guards.npz")
    assert loaded.reference is None
    assert list(loaded.columns(AGE, OUTPUTS, FEATURES)) == ["coverage", "low", "high"]


def test_guards_of_another_checkpoint_are_refused(tmp_path):
    fitted().save(tmp_path / "guards.npz")
    with pytest.raises(
        InputRefusedError, match="wanted guards for checkpoint xyz, got"
    ):
        Guards.load(tmp_path / "guards.npz", checkpoint="xyz")


def test_a_damaged_file_is_refused_whatever_byte_is_wrong(tmp_path):
    path = tmp_path / "guards.npz"
    fitted().save(path)
    whole = path.read_bytes()
    kept = {}
    for place in range(0, len(whole), 37):
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        )
        with suppress(InputRefusedError):
            kept[place] = Guards.load(path)
    # A zip has bytes that say nothing, such as dates; what is read is still the same.
    want = fitted().columns(AGE, OUTPUTS, FEATURES[:30])
    assert all(g.columns(AGE, OUTPUTS, FEATURES[:30]) == want for g in kept.values())
    for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputRefusedError, match="wanted the guards of a run"):
            Guards.load(path)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match="no such file"):
        Guards.load(tmp_path / "guards.npz")


def test_a_pickle_is_never_opened(tmp_path):
    np.savez(tmp_path / "guards.npz", facts=np.array([{"a": 1}], object))
    with pytest.raises(InputRefusedError, match="allow_pickle"):
        Guards.load(tmp_path / "guards.npz")


def test_features_of_another_network_are_refused():
    with pytest.raises(InputRefusedError, match="wanted 8 features a scan, got 9"):
        fitted().columns(AGE, OUTPUTS[:2], np.zeros((2, 9)))


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90.0])
def test_a_coverage_that_cannot_be_is_refused(coverage):
    with pytest.raises(InputRefusedError, match="wanted between 0 and 1"):
        fitted(coverage=coverage)
