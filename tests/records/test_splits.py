"""No subject in two parts, every scan in one, whatever the order of the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainjax.errors import InputRefusedError
from brainjax.records.splits import folds_by_subject, split_by_subject

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
SUBJECTS = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=80).filter(
    lambda subjects: len(set(subjects)) >= 5
)
LABELS = st.sampled_from(["none", "age", "sex"])


def labels(kind: str, subjects: list[str]):
    """A label that follows the subject, unknown for some."""
    values = {"age": lambda s: float(s) / 3, "sex": lambda s: "FM"[int(s) % 2]}
    if kind == "none":
        return None
    return [None if int(s) % 7 == 0 else values[kind](s) for s in subjects]


@settings(deadline=None, max_examples=60)
@given(SUBJECTS, LABELS, st.integers(0, 99), st.randoms(use_true_random=False))
def test_splits(subjects, kind, seed, random):
    values = labels(kind, subjects)
    parts = split_by_subject(subjects, seed=seed, fractions=FRACTIONS, stratify=values)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(subjects)))
    sets = [{subjects[i] for i in part} for part in parts.values()]
    assert all(sets)
    assert sum(map(len, sets)) == len(set(subjects))

    order = list(range(len(subjects)))
    random.shuffle(order)
    shuffled = [subjects[i] for i in order]
    again = split_by_subject(
        shuffled, seed=seed, fractions=FRACTIONS, stratify=labels(kind, shuffled)
    )
    assert [{shuffled[i] for i in part} for part in again.values()] == sets


@settings(deadline=None, max_examples=60)
@given(SUBJECTS, LABELS, st.integers(0, 99), st.integers(2, 5))
def test_folds(subjects, kind, seed, folds):
    values = labels(kind, subjects)
    numbers = folds_by_subject(subjects, seed=seed, folds=folds, stratify=values)
    assert numbers.shape == (len(subjects),)
    pairs = set(zip(subjects, numbers.tolist(), strict=True))
    assert len(pairs) == len(set(subjects))
    sizes = np.bincount([number for _, number in pairs], minlength=folds)
    assert len(sizes) == folds
    assert np.ptp(sizes) <= 1
    turned = folds_by_subject(
        subjects[::-1], seed=seed, folds=folds, stratify=values and values[::-1]
    )
    np.testing.assert_array_equal(turned[::-1], numbers)


def test_counts_follow_the_shares_and_seeds_differ():
    subjects = [f"s{n}" for n in range(100)]
    first = split_by_subject(subjects, seed=0, fractions=FRACTIONS)
    second = split_by_subject(subjects, seed=1, fractions=FRACTIONS)
    assert {name: len(part) for name, part in first.items()} == {
        "train": 70,
        "val": 10,
        "test": 20,
    }
    assert set(first["test"]) != set(second["test"])


def test_a_share_of_nothing_is_empty():
    parts = split_by_subject(["a", "b"], seed=0, fractions={"train": 1.0, "val": 0.0})
    assert (len(parts["train"]), len(parts["val"])) == (2, 0)


def test_stratifying_balances_a_rare_class_and_a_number():
    subjects = [f"s{n:03d}" for n in range(100)]
    rare = ["yes" if n < 10 else "no" for n in range(100)]
    ages = [float(n) for n in range(100)]
    for seed in range(10):
        folds = folds_by_subject(subjects, seed=seed, folds=5, stratify=rare)
        assert [int((folds[:10] == fold).sum()) for fold in range(5)] == [2] * 5
        parts = split_by_subject(
            subjects, seed=seed, fractions=FRACTIONS, stratify=rare
        )
        assert 1 <= (parts["test"] < 10).sum() <= 3
        parts = split_by_subject(
            subjects, seed=seed, fractions=FRACTIONS, stratify=ages
        )
        bins = np.bincount(parts["test"] // 20, minlength=5)
        assert (bins >= 3).all()
        assert (bins <= 5).all()


def test_too_few_subjects_and_wrong_shares():
    with pytest.raises(InputRefusedError, match="got 3 folds and 2 subjects"):
        folds_by_subject(["a", "b", "a"], seed=0, folds=3)
    with pytest.raises(InputRefusedError, match="at least 3 subjects"):
        split_by_subject(["a", "b"], seed=0, fractions=FRACTIONS)
    with pytest.raises(InputRefusedError, match="sum to 1"):
        split_by_subject(["a", "b"], seed=0, fractions={"train": 0.5, "val": 0.2})
    with pytest.raises(InputRefusedError, match="got 1"):
        folds_by_subject(["a", "b"], seed=0, folds=2, stratify=[1])
