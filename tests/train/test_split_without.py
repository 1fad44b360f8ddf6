"""Subjects left out of a split are in no part of it, and nobody else moves in twice."""

import numpy as np
import pytest

from brainjax.records.store import open_dataset
from brainjax.train.scans import name_subjects, split_scans


@pytest.mark.parametrize("words", [{}, {"folds": 3, "fold": 1}, {"stratify": "age"}])
def test_subjects_left_out_are_in_no_part(tiny_prepared, words):
    dataset = open_dataset(tiny_prepared)
    gone = name_subjects(dataset, np.arange(5))
    split = split_scans(dataset, without=gone, **words)
    kept = [set(name_subjects(dataset, part)) for part in split]
    assert not set(gone) & set.union(*kept)
    assert sum(map(len, kept)) == len(set.union(*kept)) == 11


def test_without_nobody_left_out_the_split_is_what_it_was(tiny_prepared):
    dataset = open_dataset(tiny_prepared)
    for ours, theirs in zip(
        split_scans(dataset, seed=3),
        split_scans(dataset, seed=3, without=()),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
