"""What the convolutional networks that others trained have in common."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least

REMATS = ("none", "block")
"""What the backward pass computes again: nothing, or the inside of every block."""


def batch_norm(channels: int, dtype, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """A batch norm with PyTorch's epsilon and momentum (0.1, which flax calls 0.9)."""
    return nnx.BatchNorm(
        channels,
        momentum=0.9,
        epsilon=1e-5,
        use_fast_variance=False,
        dtype=dtype,
        rngs=rngs,
    )


def overlapping_max(cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k c"]:
    """The largest of 3x3x3 cells, every second one; cells outside never count.

    One axis after the other, as slices: a pooling window's gradient is slow on a CPU.
    """
    for axis in (1, 2, 3):
        pad = [(0, 0)] * 5
        pad[axis] = (1, 1)
        padded = jnp.pad(cells, pad, constant_values=-jnp.inf)
        count = (cells.shape[axis] + 1) // 2
        taps = [every_second(padded, axis, first, count) for first in range(3)]
        cells = jnp.maximum(jnp.maximum(taps[0], taps[1]), taps[2])
    return cells


def every_second(cells: Array, axis: int, first: int, count: int) -> Array:
    """Gives `count` slices along an axis: the first, and every second one after it."""
    index = [slice(None)] * cells.ndim
    index[axis] = slice(first, first + 2 * count - 1, 2)
    return cells[tuple(index)]


def halving_mean(cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k c"]:
    """The mean of each 2x2x2 cells; the last cell of an odd side is left out."""
    for axis in (1, 2, 3):
        count = cells.shape[axis] // 2
        one, other = (every_second(cells, axis, first, count) for first in (0, 1))
        cells = (one + other) * 0.5
    return cells


def run_stage(blocks: Iterable[nnx.Module], cells: Array, remat: str) -> list[Array]:
    """Runs blocks one after the other; gives the cells after each.

    Under "block" the inside of each is computed again backwards.
    """
    maps = []
    for block in blocks:
        call: Callable = type(block).__call__
        run = nnx.remat(call) if remat == "block" else call
        cells = run(block, cells)
        maps.append(cells)
    return maps


def check_blocks(blocks) -> tuple[int, ...]:
    """Gives the numbers of blocks of each level; refuses none, or fewer than one."""
    counts = tuple(blocks)
    if not counts:
        raise InputRefusedError(f"blocks: wanted one level or more, got {blocks}")
    return tuple(at_least(1, count, "blocks") for count in counts)
