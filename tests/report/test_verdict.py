"""The verdict follows the paired difference, in whichever direction it points."""

import numpy as np
import pytest
from fake_runs import finetune_run, pretrain_run

from brainjax.report.load import load_run
from brainjax.report.verdict import (
    baseline_sentence,
    compare_runs,
    different_keys,
    sentence,
    show,
)

AGES = np.linspace(20, 80, 40)


def noise(size: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, len(AGES))


def two_runs(tmp_path, first: float, second: float, **keywords):
    folders = [
        finetune_run(
            tmp_path / "age",
            init="pretrain",
            answers=AGES + noise(first, 1),
            targets=AGES,
            **keywords,
        ),
        finetune_run(
            tmp_path / "scratch",
            init="scratch",
            answers=AGES + noise(second, 2),
            targets=AGES,
        ),
    ]
    return [load_run(folder) for folder in folders]


def test_a_smaller_error_is_said_to_be_lowered(tmp_path):
    (found,) = compare_runs(two_runs(tmp_path, 2, 8))
    truth = np.abs(noise(2, 1)).mean() - np.abs(noise(8, 2)).mean()
    assert found.difference.value == pytest.approx(truth)
    text = sentence(found)
    assert text.startswith(f"Pretraining lowered the age error by {show(-truth)} years")
    low, high = -found.difference.high, -found.difference.low
    assert 0 < low < -truth < high
    assert f"95 % interval {show(low)} to {show(high)}; n = 40 subjects" in text


def test_a_larger_error_is_said_to_be_raised(tmp_path):
    (found,) = compare_runs(two_runs(tmp_path, 8, 2))
    assert sentence(found).startswith("Pretraining raised the age error by ")


def test_an_interval_that_holds_zero_shows_nothing(tmp_path):
    (found,) = compare_runs(two_runs(tmp_path, 4, 4))
    assert found.difference.low < 0 < found.difference.high
    text = sentence(found)
    assert text.startswith("No difference could be shown: with pretraining the age")
    assert " lower to " in text
    assert " higher; n = 40 subjects)." in text


def test_equal_answers_are_no_difference(tmp_path):
    runs = two_runs(tmp_path, 4, 4)
    same = runs[0]._replace(predictions=runs[1].predictions)
    (found,) = compare_runs([same, runs[1]])
    assert found.difference.value == 0
    assert sentence(found).startswith("No difference could be shown")


def test_classes_are_compared_by_their_error_rate(tmp_path):
    truth = np.array(["F", "M"] * 20)
    wrong = np.where(truth == "F", "M", "F")
    common = {"targets": truth, "task": "classification", "target": "sex"}
    good = finetune_run(tmp_path / "a", init="pretrain", answers=truth, **common)
    bad = finetune_run(tmp_path / "b", init="scratch", answers=wrong, **common)
    (found,) = compare_runs([load_run(good), load_run(bad)])
    assert found.difference.value == -100
    assert "lowered the sex error rate by 100.0 percentage points" in sentence(found)


def test_subjects_are_counted_not_scans(tmp_path):
    twice = [f"s{i // 2}" for i in range(40)]
    (found,) = compare_runs(two_runs(tmp_path, 2, 8, subjects=twice))
    assert found.difference.n == 20
    assert "n = 20 subjects" in sentence(found)


def test_other_true_values_are_not_compared(tmp_path):
    one, other = two_runs(tmp_path, 2, 8)
    moved = other.predictions._replace(targets=AGES + 1)
    (found,) = compare_runs([one, other._replace(predictions=moved)])
    assert found.difference is None
    assert "different true values" in sentence(found)


def test_only_scans_that_both_answered_count(tmp_path):
    one, other = two_runs(tmp_path, 2, 8)
    few = [part[::-1][:10] for part in other.predictions]
    cut = other.predictions._make(few)
    (found,) = compare_runs([one, other._replace(predictions=cut)])
    expected = np.abs(noise(2, 1))[-10:].mean() - np.abs(noise(8, 2))[-10:].mean()
    assert found.difference.value == pytest.approx(expected)
    assert found.difference.n == 10


def test_targets_are_not_mixed(tmp_path):
    one, other = two_runs(tmp_path, 2, 8)
    weight = other._replace(evaluation={**other.evaluation, "target": "weight"})
    assert compare_runs([one, weight]) == []


def test_what_else_differs_is_named(tmp_path):
    (found,) = compare_runs(two_runs(tmp_path, 2, 8, head={"dropout": 0.5}))
    assert found.others == ["head"]


def test_how_a_run_was_computed_is_no_other_setting(tmp_path):
    how = {"mesh": {"fsdp": 2}, "profile_steps": [1, 2]}
    (found,) = compare_runs(two_runs(tmp_path, 2, 8, **how))
    assert found.others == []


def test_subjects_that_pretraining_saw_are_counted(tmp_path):
    seen = ["test-00", "test-01", "test-07", "elsewhere"]
    donor = load_run(pretrain_run(tmp_path / "pretrain", subjects=seen))
    (found,) = compare_runs([donor, *two_runs(tmp_path, 2, 8)])
    assert found.seen == 3


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (50.0, "better than always answering the training mean (50.00 years)"),
        (0.01, "worse than always"),
        (1.6, "not shown to beat always"),
    ],
)
def test_the_baseline_is_beaten_only_beyond_the_interval(tmp_path, baseline, words):
    run, _ = two_runs(tmp_path, 2, 8, baseline=baseline)
    assert words in baseline_sentence(run)


def test_accuracy_is_better_when_higher(tmp_path):
    truth = np.array(["F", "M"] * 20)
    run = finetune_run(
        tmp_path / "a",
        init="scratch",
        answers=truth,
        targets=truth,
        task="classification",
        target="sex",
        baseline=0.5,
    )
    assert "better than always" in baseline_sentence(load_run(run))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.234, "1.23"), (0, "0.00"), (0.0123, "0.012"), (123.4, "123.4")],
)
def test_numbers_for_readers(value, text):
    assert show(value) == text


def test_numbers_that_are_none():
    assert show(float("nan")) == show(None) == show("x") == "not finite"


def test_different_keys_are_dotted():
    one = {"a": {"b": 1, "c": 2}, "d": 3}
    assert different_keys(one, {"a": {"b": 1, "c": 5}, "d": 3, "e": 1}) == ["a.c", "e"]


def test_risks_are_not_compared_scan_by_scan(tmp_path):
    risks = {"task": "survival", "target": "survival_days", "targets": AGES}
    first = finetune_run(tmp_path / "a", init="pretrain", answers=noise(1, 1), **risks)
    second = finetune_run(tmp_path / "b", init="scratch", answers=noise(1, 2), **risks)
    (found,) = compare_runs([load_run(first), load_run(second)])
    assert found.difference is None
    assert "nothing to compare on survival_days: a risk has no error" in sentence(found)
