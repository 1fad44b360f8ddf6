"""A whole volume's logits, at once or by windows that overlap, in one program.

Windows cover every voxel; where they overlap, each counts by a Gaussian round its
middle (Isensee et al. 2021, nnU-Net), so that what a network knows least of, a window's
border, counts least. A network that looks at every voxel alone answers as it does at
once.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

Shape = tuple[int, int, int]
Call = Callable[[Float[Array, "b i j l s"]], Float[Array, "b i j l k"]]

OVERLAP = 0.5
SIGMA = 1 / 8
"""Of the Gaussian, by the window's side."""

LEAST = 1e-3
"""Weight of a window's border along an axis at least: a corner's stays above 0."""


def axis_starts(field: int, size: int, overlap: float) -> Int[np.ndarray, " w"]:
    """Gives the first voxels of windows along one axis, evenly, as few as can be.

    The first window begins at the first voxel, and the last ends at the last.
    """
    step = max(int(size * (1 - overlap)), 1)
    count = -(-max(field - size, 0) // step) + 1
    return np.round(np.linspace(0, max(field - size, 0), count)).astype(np.int64)


def window_starts(
    field: Sequence[int], size: Sequence[int], overlap: float = OVERLAP
) -> Int[np.ndarray, "w 3"]:
    """Gives the first voxels of all windows of a volume at least as large as one."""
    axes = [
        axis_starts(f, s, overlap).tolist() for f, s in zip(field, size, strict=True)
    ]
    return np.array(list(itertools.product(*axes)), np.int64)


def axis_weights(size: int) -> Float32[np.ndarray, " n"]:
    """Gives how much the voxels of a window count, along one axis."""
    away = (np.arange(size) - (size - 1) / 2) / (size * SIGMA)
    return np.maximum(np.exp(-np.square(away) / 2), LEAST).astype(np.float32)


def whole_logits(
    call: Call,
    volume: Float[Array, "x y z s"],
    *,
    size: Shape,
    overlap: float = OVERLAP,
    batch: int = 1,
) -> Float[Array, "x y z k"]:
    """Gives the logits of a whole volume; for use under `jax.jit`.

    Args:
        call: the network, of windows.
        volume: z-scored, 0 outside.
        size: of a window. Where it is larger than the volume, nothing lies round that.
        overlap: share of a window that the next one sees again, at least.
        batch: windows at a time.
    """
    field = volume.shape[:3]
    short = [max(s - f, 0) for s, f in zip(size, field, strict=True)]
    pads = [(n // 2, n - n // 2) for n in short]
    padded = jnp.pad(volume, [*pads, (0, 0)])
    if padded.shape[:3] == tuple(size):
        logits = call(padded[None])[0].astype(jnp.float32)
    else:
        logits = _by_windows(call, padded, size, overlap, batch)
    kept = (slice(low, low + n) for (low, _), n in zip(pads, field, strict=True))
    return logits[tuple(kept)]


def _by_windows(
    call: Call, volume: Array, size: Shape, overlap: float, batch: int
) -> Float[Array, "x y z k"]:
    field = volume.shape[:3]
    starts = window_starts(field, size, overlap)
    given = jax.ShapeDtypeStruct((batch, *size, volume.shape[3]), volume.dtype)
    outputs = jax.eval_shape(call, given).shape[-1]
    lines = [axis_weights(n) for n in size]
    weights = _outer(lines)[..., None]
    # The last batch is filled up with windows that count for nothing.
    spare = -len(starts) % batch
    filled = np.concatenate([starts, np.repeat(starts[-1:], spare, axis=0)])
    counts = np.repeat([1.0, 0.0], [len(starts), spare]).astype(np.float32)

    def add(total: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        start, logits = given
        before = jax.lax.dynamic_slice(total, (*start, 0), logits.shape)
        return jax.lax.dynamic_update_slice(total, before + logits, (*start, 0)), None

    def step(total: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
        starts, counts = given
        cut = partial(_cut, volume, size)
        logits = call(jax.vmap(cut)(starts)).astype(jnp.float32) * weights
        logits = logits * counts[:, None, None, None, None]
        return jax.lax.scan(add, total, (starts, logits))[0], None

    nothing = jnp.zeros((*field, outputs), jnp.float32)
    given = (filled.reshape(-1, batch, 3), counts.reshape(-1, batch))
    total, _ = jax.lax.scan(step, nothing, jax.tree.map(jnp.asarray, given))
    sums = [
        _summed(line, axis_starts(f, s, overlap), f)
        for line, f, s in zip(lines, field, size, strict=True)
    ]
    # Weights are a product, and the windows a grid: so their sums are a product too.
    return total / _outer(sums)[..., None]


def _cut(volume: Array, size: Shape, start: Int[Array, "3"]) -> Array:
    return jax.lax.dynamic_slice(volume, (*start, 0), (*size, volume.shape[3]))


def _summed(
    line: Float32[np.ndarray, " n"], starts: Int[np.ndarray, " w"], field: int
) -> Float32[np.ndarray, " f"]:
    total = np.zeros(field, np.float32)
    for start in starts:
        total[start : start + len(line)] += line
    return total


def _outer(lines: Sequence[np.ndarray]) -> Float[Array, "x y z"]:
    """Multiplies lines out, on the accelerator: no large constant in a program."""
    x, y, z = (jnp.asarray(line) for line in lines)
    return x[:, None, None] * y[:, None] * z
