"""Keep XLA from fusing what is faster apart."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def apart(witness: Float[Array, "..."], function: Callable, *operands: Any) -> Any:
    """Gives function(*operands), its operands in memory before it starts.

    XLA on a CPU drops `optimization_barrier` before it fuses: a gather then computes
    its index voxel by voxel (four times slower), and statistics redo all that led to
    them. A branch is what it does not fuse through, so this is one that is always
    taken. Under vmap it becomes a select.

    witness: anything finite that XLA cannot know; where it is NaN, all is 0.
    """
    first = jnp.ravel(witness)[0]
    shapes = jax.eval_shape(function, *operands)

    def nothing(*_):
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return jax.lax.cond(first == first, function, nothing, *operands)
