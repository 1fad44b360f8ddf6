"""Which sample comes when: pure functions of (seed, step), on any machine.

A sample has a global position, step x batch + slot, counted over the whole run. Epoch
e, positions e x size to (e + 1) x size, is a permutation of the data set keyed by
(seed, e); so a batch may end one epoch and begin the next, and none is short.
"""

import threading
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
from jaxtyping import Int

ATTEMPTS = 64
"""Replacements tried for one position before the data set is refused."""
_WORD = 2**64
_REPLACEMENTS = 1 << 192  # a counter that the permutation of an epoch never reaches
_one_at_a_time = threading.Lock()


def sample_indices(
    seed: int, step: int, *, size: int, batch: int
) -> Int[np.ndarray, " b"]:
    """Gives the indices (0 to size - 1) of the global batch of a step, int64."""
    epochs, places = np.divmod(step * batch + np.arange(batch), size)
    indices = np.empty(batch, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        indices[here] = _epoch(seed, epoch, size)[places[here]]
    return indices


def sample_index(seed: int, position: int, *, size: int) -> int:
    """Gives the index of the sample at one global position."""
    epoch, place = divmod(position, size)
    return int(_epoch(seed, epoch, size)[place])


def replacement(seed: int, position: int, attempt: int, *, size: int) -> int:
    """Gives the index to try when that of a position is bad; attempt counts from 1.

    Attempts 1 to size give every index once, in an order keyed by (seed, position):
    one good record in the whole set is found.
    """
    return int(_replacements(seed, position, size)[(attempt - 1) % size])


def candidates(seed: int, position: int, *, size: int) -> Iterator[int]:
    """Gives the indices to try for a position, in turn: its own, then replacements.

    No more than ATTEMPTS of these.
    """
    yield sample_index(seed, position, size=size)
    # Drawn once, and only when asked for: it is as long as the data set.
    order = _replacements(seed, position, size)
    yield from map(int, islice(order, ATTEMPTS))


def _replacements(seed: int, position: int, size: int) -> Int[np.ndarray, " n"]:
    key = np.asarray([seed % _WORD, position], dtype=np.uint64)
    draw = np.random.Generator(np.random.Philox(key=key, counter=_REPLACEMENTS))
    return draw.permutation(size)


def _epoch(seed: int, epoch: int, size: int) -> Int[np.ndarray, " n"]:
    # Otherwise every reading thread would draw a new epoch for itself.
    with _one_at_a_time:
        return _permutation(seed, epoch, size)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Int[np.ndarray, " n"]:
    key = np.asarray([seed % _WORD, epoch], dtype=np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(size)
    order.setflags(write=False)
    return order
