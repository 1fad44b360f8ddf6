"""Weights that are a function of their names: the peers and we can both make them.

No weights are committed. A fixture holds the shapes by key and, for a seeded input,
what MONAI gives at every block; `make_golden.py` writes it beside MONAI and PyTorch.
"""

import zlib

import numpy as np


def make_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Gives a state dict: seeded by each key, at the scales of a trained network."""
    return {key: make_weight(key, tuple(shape)) for key, shape in shapes.items()}


def make_weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(zlib.crc32(key.encode()))
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return np.array(7, np.int64)
    if name == "running_var":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if name in ("bias", "running_mean"):
        return (0.1 * random.standard_normal(shape, np.float32)).astype(np.float32)
    if len(shape) < 2:
        return (1 + 0.1 * random.standard_normal(shape, np.float32)).astype(np.float32)
    if "token" in key or "pos" in key:
        return 0.5 * random.standard_normal(shape, np.float32)
    fan_in = int(np.prod(shape[1:]))
    return random.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)


def make_volumes(
    batch: int, shape: tuple[int, int, int], *, channels: int = 1, seed: int = 0
) -> np.ndarray:
    """Gives float32 [batch, x, y, z, channels], smooth enough to be a scan's like."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((batch, 8, 8, 8, channels), np.float32)
    for axis, size in enumerate(shape, start=1):
        coarse = np.repeat(coarse, -(-size // 8), axis=axis)
        coarse = np.take(coarse, range(size), axis=axis)
    fine = random.standard_normal(coarse.shape, np.float32)
    return (coarse + 0.5 * fine).astype(np.float32)


def sample(array: np.ndarray, count: int = 64) -> np.ndarray:
    """Gives `count` values at places that depend on the size alone, float32."""
    flat = np.asarray(array, np.float32).reshape(-1)
    places = np.linspace(0, flat.size - 1, count).round().astype(np.int64)
    return flat[places]


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Gives the largest absolute difference, in units of their standard deviation."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / theirs.std())
