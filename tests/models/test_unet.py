"""The whole-volume U-Net equals its arithmetic in plain NumPy."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from brainjax.models import run
from tests.models.test_segmenters import filled

SHAPE = (10, 13, 7)
KEYWORDS = {
    "shape": SHAPE,
    "channels": 2,
    "outputs": 3,
    "widths": (8, 6, 10),
    "blocks": (1, 2, 1),
    "decoder_blocks": (2, 1),
    "deep": 1,
}


def in_order(tree):
    return [tree[str(number)] for number in range(len(tree))]


def linear(cells, p):
    return cells @ p["kernel"] + p["bias"]


def norm(cells, p):
    """Mean 0 and variance 1 of every group of channels over the whole space."""
    channels = cells.shape[-1]
    groups = max(g for g in range(1, 9) if channels % g == 0)
    split = cells.reshape(*cells.shape[:4], groups, -1)
    mean = split.mean((1, 2, 3, 5), keepdims=True)
    spread = np.sqrt(split.var((1, 2, 3, 5), keepdims=True) + 1e-5)
    return ((split - mean) / spread).reshape(cells.shape) * p["scale"] + p["bias"]


def convolve(cells, p):
    padded = np.pad(cells, [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)])
    x, y, z = cells.shape[1:4]
    return sum(
        padded[:, i : i + x, j : j + y, k : k + z] @ p["kernel"][i, j, k]
        for i, j, k in product(range(3), repeat=3)
    )


def blocks_of(cells, tree):
    for p in in_order(tree):
        hidden = convolve(np.maximum(norm(cells, p["norm1"]), 0), p["conv1"])
        hidden = convolve(np.maximum(norm(hidden, p["norm2"]), 0), p["conv2"])
        cells = cells + hidden
    return cells


def fold(cells):
    odd = [(0, side % 2) for side in cells.shape[1:4]]
    cells = np.pad(cells, [(0, 0), *odd, (0, 0)])
    corners = product(range(2), repeat=3)
    parts = [cells[:, i::2, j::2, k::2] for i, j, k in corners]
    return np.concatenate(parts, axis=-1)


def unfold(cells, sides):
    b, x, y, z, channels = cells.shape
    found = np.empty((b, 2 * x, 2 * y, 2 * z, channels // 8))
    parts = np.split(cells, 8, axis=-1)
    for part, (i, j, k) in zip(parts, product(range(2), repeat=3), strict=True):
        found[:, i::2, j::2, k::2] = part
    return found[:, : sides[0], : sides[1], : sides[2]]


def unet_by_hand(params, volumes):
    skips = [blocks_of(linear(fold(volumes), params["stem"]), params["stem_blocks"])]
    for stage in in_order(params["stages"]):
        skips.append(blocks_of(linear(fold(skips[-1]), stage["down"]), stage["blocks"]))
    cells = skips.pop()
    levels = []
    climbs = zip(*(in_order(params[key]) for key in ("ups", "up_blocks")), strict=True)
    for up, blocks in climbs:
        skip = skips.pop()
        spread = linear(cells, up).repeat(2, 1).repeat(2, 2).repeat(2, 3)
        x, y, z = skip.shape[1:4]
        cells = blocks_of(skip + spread[:, :x, :y, :z], blocks)
        levels.append(cells)
    deep = linear(levels[0], params["deep_outs"]["0"])
    finest = np.maximum(norm(levels[1], params["norm"]), 0)
    beside = linear(np.concatenate([finest, fold(volumes)], -1), params["beside"])
    last = linear(np.maximum(beside, 0), params["out"])
    return unfold(last, SHAPE), unfold(deep, levels[1].shape[1:4])


def test_unet_equals_numpy():
    graphdef, params, _ = filled("unet", **KEYWORDS)
    volumes = np.random.default_rng(1).standard_normal((2, *SHAPE, 2))

    @jax.jit
    def call(params, volumes):
        return run(graphdef, params, {}, volumes, train=False)[0]

    got = call(params, jnp.asarray(volumes, jnp.float32))
    doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    logits, deep = unet_by_hand(doubles, volumes)
    np.testing.assert_allclose(got.logits, logits, atol=1e-4)
    np.testing.assert_allclose(got.deep[0], deep, atol=1e-4)
