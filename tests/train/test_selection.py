"""Draws of few labels by subject, and balance by repetition: which scans, how often."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.tasks import make_task
from brainjax.train.selection import BINS, Selection, balanced, select, strata

N = 60
SUBJECTS = np.arange(N) // 2  # thirty subjects of two scans each
DATASET = SimpleNamespace(subject_ids=SUBJECTS)
INDICES = np.arange(N)
SEXES = ["F" if subject % 3 else "M" for subject in SUBJECTS]
AGES = [20.0 + subject**1.3 for subject in SUBJECTS]
FOLLOW_UPS = [
    (age, subject % 2 == 0) for age, subject in zip(AGES, SUBJECTS, strict=True)
]

SEX = make_task("classification", target="sex").fit(SEXES)
AGE = make_task("regression", target="age").fit(AGES)
SURVIVAL = make_task("survival", target="t", event="e").fit(FOLLOW_UPS)
TASKS = [(SEX, SEXES), (AGE, AGES), (SURVIVAL, FOLLOW_UPS)]
NAMES = ["classification", "regression", "survival"]


def draw(task, values, indices=INDICES, seed=0, **words):
    chosen = Selection("data", **words).check()
    dataset: Any = DATASET
    return select(chosen, dataset, indices, task, values, seed=seed)


def subjects(indices) -> set[int]:
    return set(SUBJECTS[indices].tolist())


@pytest.mark.parametrize(("task", "values"), TASKS, ids=NAMES)
def test_k_subjects_of_every_class_with_all_their_scans(task, values):
    groups = strata(task, values)
    for count in (1, 3):
        found = draw(task, values, train_per_class=count)
        assert sorted(found) == list(found)
        assert len(found) == 2 * len(subjects(found))
        for group in np.unique(groups):
            assert len(subjects(found[groups[found] == group])) == count
    assert set(draw(task, values, train_per_class=1)) <= set(found)


@pytest.mark.parametrize(("task", "values"), TASKS, ids=NAMES)
def test_a_share_of_the_subjects_keeps_the_shares_of_classes(task, values):
    groups, before = strata(task, values), set()
    for fraction in (0.1, 0.2, 0.5):
        found = draw(task, values, train_fraction=fraction)
        assert len(subjects(found)) == round(fraction * 30)
        assert len(found) == 2 * len(subjects(found))
        assert before <= set(found)
        before = set(found)
    for group in np.unique(groups):
        share = np.mean(groups == group)
        assert abs(np.mean(groups[found] == group) - share) <= 2 / 15


@pytest.mark.parametrize(
    ("key", "value"),
    [("train_per_class", 2), ("train_fraction", 0.2), ("train_subjects", 5)],
)
def test_draws_differ_and_come_again(key, value):
    words: dict[str, Any] = {key: value}
    found = [tuple(draw(SEX, SEXES, draw=number, **words)) for number in range(5)]
    assert len(set(found)) > 3
    assert found == [tuple(draw(SEX, SEXES, draw=n, **words)) for n in range(5)]
    assert len({tuple(draw(SEX, SEXES, seed=s, **words)) for s in range(5)}) > 3


def test_only_the_scans_that_are_offered_are_drawn():
    offered = INDICES[::3]
    found = draw(SEX, SEXES, offered, train_per_class=2)
    assert set(found) <= set(offered)
    found = draw(SEX, SEXES, offered, train_fraction=0.3)
    assert set(found) <= set(offered)


def test_a_subject_with_scans_of_several_classes_stands_for_one():
    names = ["T1w", "FLAIR"] * (N // 2)
    task = make_task("classification", target="sequence").fit(names)
    found = draw(task, names, train_per_class=4)
    assert len(found) == len(subjects(found)) == 8
    assert [names[i] for i in found].count("FLAIR") == 4


def test_classes_become_equally_frequent():
    found = balanced("classes", INDICES, SEX, SEXES, seed=0)
    names, counts = np.unique(np.array(SEXES)[found], return_counts=True)
    assert counts.tolist() == [40, 40]
    # Nobody is left out, and of one class none comes more than once more often.
    per_scan = np.bincount(found, minlength=N)
    assert per_scan[np.array(SEXES) == "F"].tolist() == [1] * 40
    assert set(per_scan[np.array(SEXES) == "M"].tolist()) == {2}
    assert names.tolist() == ["F", "M"]


@pytest.mark.parametrize(("task", "values"), TASKS[1:], ids=NAMES[1:])
def test_bins_of_one_width_become_equally_frequent(task, values):
    found = balanced("bins", INDICES, task, values, seed=0)
    low, high = min(AGES), max(AGES)
    bins = np.clip((np.array(AGES) - low) / (high - low) * BINS, 0, BINS - 1).astype(
        int
    )
    counts = np.bincount(bins[found], minlength=BINS)
    assert len(set(counts[counts > 0].tolist())) == 1
    assert set(found) == set(INDICES)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"train_per_class": 11}, r"train_per_class: wanted at most 10, as .*'M'"),
        ({"train_subjects": 31}, "train_subjects: wanted 31, the split has 30"),
        ({"train_fraction": 0.0}, "train_fraction: wanted over 0, up to 1, got 0"),
        ({"draw": -1}, "draw: wanted 0 or more, got -1"),
        ({"sequence_dropout": 1.0}, "sequence_dropout: wanted 0 to under 1"),
        ({"sequence_dropout": 0.5}, "wanted 0 without sequences, got 0.5"),
        ({"balance": "ages"}, "balance: wanted one of"),
        (
            {"train_fraction": 0.5, "train_per_class": 1},
            "train_fraction: wanted no train_per_class with it, got 0.5",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(words, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        draw(SEX, SEXES, **words)


@pytest.mark.parametrize(("kind", "number"), [("bins", 0), ("classes", 1)])
def test_a_balance_that_the_task_does_not_have_is_refused(kind, number):
    task, values = TASKS[number]
    with pytest.raises(InputRefusedError, match=f"balance: .* got '{kind}'"):
        balanced(kind, INDICES, task, values, seed=0)
