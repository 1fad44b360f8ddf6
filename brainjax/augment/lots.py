"""Random numbers drawn at once, so that a draw of many parts compiles in a moment."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt32

_STEPS = 2**24  # what float32 tells apart between 0 and 1


class Lots:
    """So many numbers of one key, handed out in the order in which they are asked for.

    A call of jax.random compiles a generator of its own each time; a view that takes
    forty of them would compile for a minute.
    """

    def __init__(self, key: Key[Array, ""], count: int):
        self._bits = jax.random.bits(key, (count,), jnp.uint32)
        self._taken = 0

    def words(self, count: int) -> UInt32[Array, " n"]:
        """Gives so many whole numbers of 32 random bits."""
        first, self._taken = self._taken, self._taken + count
        assert self._taken <= self._bits.shape[0], "more lots than were drawn"
        return self._bits[first : self._taken]

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Gives numbers from `low` to under `high`."""
        bits = self.words(math.prod(shape)).reshape(shape) >> np.uint32(8)
        return low + (high - low) * (bits.astype(jnp.float32) / _STEPS)

    def happens(
        self, probability: float, shape: tuple[int, ...] = ()
    ) -> Bool[Array, "..."]:
        """Gives whether it does; always at 1, never at 0."""
        return self.uniform(shape=shape) < probability
