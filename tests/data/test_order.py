"""The order is a pure function of (seed, step) and every epoch is a permutation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainjax.data import replacement, sample_indices
from brainjax.data.order import ATTEMPTS, candidates, sample_index

# Moving these would change what every unfinished run resumes to.
PINNED = [[6, 3, 9, 1, 2], [0, 5, 7, 8, 4], [1, 9, 2, 8, 5]]


@settings(deadline=None)
@given(st.integers(-5, 2**40), st.integers(1, 30), st.integers(1, 40))
def test_every_epoch_is_a_permutation(seed, size, batch):
    steps = -(-3 * size // batch)
    run = np.concatenate(
        [sample_indices(seed, s, size=size, batch=batch) for s in range(steps)]
    )
    for epoch in run[: 3 * size].reshape(3, size):
        assert sorted(epoch) == list(range(size))


@settings(deadline=None)
@given(st.integers(-5, 2**40), st.integers(0, 50), st.integers(1, 9))
def test_a_batch_is_its_samples(seed, step, size):
    one = [sample_index(seed, step * 7 + slot, size=size) for slot in range(7)]
    assert sample_indices(seed, step, size=size, batch=7).tolist() == one


def test_candidates_are_the_sample_then_its_replacements():
    for size in (5, 200):
        drawn = list(candidates(3, 11, size=size))
        assert drawn[0] == sample_index(3, 11, size=size)
        tries = range(1, min(size, ATTEMPTS) + 1)
        assert drawn[1:] == [replacement(3, 11, a, size=size) for a in tries]


def test_the_order_depends_on_seed_and_epoch_alone():
    first = sample_indices(1, 0, size=100, batch=100)
    assert (first != sample_indices(1, 1, size=100, batch=100)).any()
    assert (first != sample_indices(2, 0, size=100, batch=100)).any()
    halves = [sample_indices(1, s, size=100, batch=50) for s in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), first)


def test_the_order_is_pinned():
    got = [sample_indices(7, s, size=10, batch=5).tolist() for s in (0, 1, 2)]
    assert got == PINNED


def test_replacements_reach_every_index_and_are_keyed():
    drawn = [replacement(3, 11, a, size=20) for a in range(1, 21)]
    assert sorted(drawn) == list(range(20))
    assert drawn == [replacement(3, 11, a, size=20) for a in range(1, 21)]
    assert drawn != [replacement(3, 12, a, size=20) for a in range(1, 21)]
    assert drawn != [replacement(4, 11, a, size=20) for a in range(1, 21)]


@pytest.mark.parametrize("epoch", [0, 3])
def test_replacements_are_not_the_order_of_an_epoch(epoch):
    order = sample_indices(3, epoch, size=50, batch=50).tolist()
    assert [replacement(3, epoch, a, size=50) for a in range(1, 51)] != order
