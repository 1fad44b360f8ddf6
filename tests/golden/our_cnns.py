"""Our side of a comparison: an encoder filled from named weights by its layout."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from brainjax.interop.layout import Layout, gather
from brainjax.models import ENCODERS, run, to_pure
from tests.golden.weights import make_weights

FOLDER = Path(__file__).parent


class Golden(NamedTuple):
    """A fixture of `make_cnn`: shapes by key, and samples of each named block."""

    family: str
    side: int
    keywords: dict[str, Any]
    blocks: list[str]
    shapes: dict[str, tuple[int, ...]]
    samples: np.ndarray
    scales: np.ndarray


def read_golden(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        about = json.loads(str(arrays["about"]))
        about["shapes"] = {key: tuple(s) for key, s in about["shapes"].items()}
        return Golden(**about, samples=arrays["samples"], scales=arrays["scales"])


def fill(layout: Layout, shapes: dict, keywords: dict[str, Any]):
    """Gives the structure of our encoder, and trees from the weights of those keys."""
    keywords = {**layout.infer(shapes), **keywords}
    make = ENCODERS[layout.encoder]
    module = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0), **keywords))
    pure = to_pure(module)
    trees = gather(layout.entries(keywords), make_weights(shapes).__getitem__)
    for part, want in (("params", pure.params), ("batch_stats", pure.batch_stats)):
        sizes = jax.tree.map(lambda leaf: leaf.shape, trees[part])
        assert sizes == jax.tree.map(lambda leaf: leaf.shape, want), part
    return keywords, pure.graphdef, trees


def run_ours(graphdef, trees, volumes: np.ndarray) -> list[np.ndarray]:
    """Gives every block's output, then the pooled features."""

    @jax.jit
    def maps(params, stats, volumes):
        def call(method):
            return run(graphdef, params, stats, volumes, train=False, method=method)[0]

        blocks = [block for stage in call("block_maps") for block in stage]
        return [*blocks, call("__call__").pooled]

    found = maps(trees["params"], trees["batch_stats"], volumes)
    return [np.asarray(array) for array in found]
