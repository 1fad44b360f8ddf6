"""Which sample comes when: pure functions of (seed, step), on any machine.

A sample has a global position, step x batch + slot, counted over the whole run. Epoch
e, positions e x size to (e + 1) x size, is a permutation of the data set keyed by
(seed, e); so a batch may end one epoch and begin the next, and none is short.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int

_WORD = 2**64
_REPLACEMENTS = 1 << 192  # a counter that the permutation of an epoch never reaches


def sample_indices(
    seed: int, step: int, *, size: int, batch: int
) -> Int[np.ndarray, " b"]:
    """Gives the indices (0 to size - 1) of the global batch of a step, int64."""
    positions = step * batch + np.arange(batch)
    return np.asarray([sample_index(seed, int(p), size=size) for p in positions])


def sample_index(seed: int, position: int, *, size: int) -> int:
    """Gives the index of the sample at one global position."""
    epoch, place = divmod(position, size)
    return int(_permutation(seed, epoch, size)[place])


def replacement(seed: int, position: int, attempt: int, *, size: int) -> int:
    """Gives the index to try when that of a position is bad; attempt counts from 1.

    Attempts 1 to size give every index once, in an order keyed by (seed, position):
    one good record in the whole set is found.
    """
    key = np.asarray([seed % _WORD, position], dtype=np.uint64)
    draw = np.random.Generator(np.random.Philox(key=key, counter=_REPLACEMENTS))
    return int(draw.permutation(size)[(attempt - 1) % size])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Int[np.ndarray, " n"]:
    key = np.asarray([seed % _WORD, epoch], dtype=np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(size)
    order.setflags(write=False)
    return order
