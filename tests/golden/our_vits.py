"""Our side of a comparison: a ViT or UNETR filled from named weights by its layout."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from brainjax.interop.layout import Layout, gather
from brainjax.interop.layouts import nidl, unetr, vit
from brainjax.models import ViT, run, to_pure
from brainjax.models.unetr import UNETR
from tests.golden.weights import make_weights

FOLDER = Path(__file__).parent
LAYOUTS = {"vit": vit.LAYOUT, "nidl": nidl.LAYOUT, "unetr": unetr.LAYOUT}
NETWORKS = {"vit": ViT, "nidl": ViT, "unetr": UNETR}


class Golden(NamedTuple):
    """A fixture of `make_vit`: shapes by key, and samples of each named block."""

    family: str
    shape: tuple[int, int, int]
    channels: int
    keywords: dict[str, Any]
    blocks: list[str]
    shapes: dict[str, tuple[int, ...]]
    versions: dict[str, dict[str, tuple[int, ...]]]
    samples: np.ndarray
    scales: np.ndarray


def read_golden(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        about = json.loads(str(arrays["about"]))
        about["shapes"] = as_tuples(about["shapes"])
        versions = {v: as_tuples(shapes) for v, shapes in about["versions"].items()}
        about |= {"versions": versions, "shape": tuple(about["shape"])}
        return Golden(**about, samples=arrays["samples"], scales=arrays["scales"])


def as_tuples(shapes: dict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in shapes.items()}


def complete(family: str, shapes: dict, given: dict[str, Any]) -> dict[str, Any]:
    """Gives our keywords: what the shapes tell and, for the ViT, what is given."""
    told = LAYOUTS[family].infer(shapes)
    if family == "unetr":
        return {**told, "encoder": {**told["encoder"], **given}}
    return {**told, **given}


def fill(family: str, keywords: dict[str, Any], weights: dict[str, np.ndarray]):
    """Gives the structure of our network, and its trees from a state dict."""
    layout: Layout = LAYOUTS[family]
    make = NETWORKS[family]
    pure = to_pure(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0), **keywords)))
    trees = gather(layout.entries(keywords), weights.__getitem__)
    sizes = jax.tree.map(lambda leaf: leaf.shape, trees["params"])
    assert sizes == jax.tree.map(lambda leaf: leaf.shape, pure.params)
    assert trees["batch_stats"] == pure.batch_stats == {}
    return pure.graphdef, trees


def run_ours(family: str, graphdef, params, volumes, each=lambda array: array) -> list:
    """Gives `each` of every block's output, then of what comes out."""

    @jax.jit
    def maps(params, volumes):
        def call(method):
            return run(graphdef, params, {}, volumes, train=False, method=method)[0]

        if family == "unetr":
            found = [*call("levels"), call("__call__")]
        else:
            encoded = call("__call__")
            found = [*call("hidden"), encoded.tokens, encoded.pooled]
        return [each(array) for array in found]

    return maps(params, volumes)


def golden_weights(golden: Golden) -> dict[str, np.ndarray]:
    return make_weights(golden.shapes)
