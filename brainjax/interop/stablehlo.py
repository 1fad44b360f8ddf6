"""A run as StableHLO: a program that runs where jax does, without our model code.

`model.stablehlo` is what `jax.export` serialises, with a symbolic batch dimension and
for every platform; `weights.safetensors` holds its first argument, a flat dict;
`model.json` says what goes in and what comes out.
"""

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from brainjax.augment import evaluation_view
from brainjax.errors import MissingExtraError
from brainjax.interop.files import write_safetensors
from brainjax.models.convolution import portable_convolutions
from brainjax.models.pure import run as run_pure
from brainjax.records.store import write_atomically
from brainjax.tasks import Classification, Regression
from brainjax.train.restore import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_stablehlo(run: Run, out: Path) -> list[Path]:
    """Writes model.stablehlo, weights.safetensors and model.json into a folder.

    Raises:
        MissingExtraError: flatbuffers, which `jax.export` writes with, is not there.
    """
    if find_spec("flatbuffers") is None:
        raise MissingExtraError("flatbuffers", "export")
    weights = flatten({"params": run.params, "batch_stats": run.batch_stats})
    shapes = {k: jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in weights.items()}
    (batch,) = jax_export.symbolic_shape("batch")
    dtype = jnp.dtype(run.recipe.storage)
    volumes = jax.ShapeDtypeStruct((batch, *run.recipe.shape), dtype)
    program = jax.jit(make_program(run))
    with portable_convolutions():
        exported = jax_export.export(program, platforms=PLATFORMS)(shapes, volumes)
    outputs = jax.tree.map(lambda leaf: list(map(str, leaf.shape)), exported.out_avals)
    names = sorted(_outputs(run))
    about = {
        "call": "jax.export.deserialize(model).call(weights, volumes)",
        "volumes": {"shape": ["batch", *run.recipe.shape], "dtype": str(dtype)},
        "outputs": dict(zip(names, outputs, strict=True)),
        "unit": run.task.unit if run.task else "",
        "classes": list(getattr(run.task, "classes", ())),
        "recipe": run.recipe.to_dict(),
        "recipe_hash": run.recipe.hash,
        "checkpoint": run.checkpoint,
        "platforms": list(PLATFORMS),
    }
    paths = [out / "model.stablehlo", out / "weights.safetensors", out / "model.json"]
    write_atomically(paths[0], bytes(exported.serialize()))
    write_safetensors(paths[1], weights)
    write_atomically(paths[2], json.dumps(about, indent=1).encode())
    return paths


def make_program(run: Run) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Gives (flat weights, volumes as the recipe makes them) -> named outputs."""
    view = partial(evaluation_view, shape=run.view)
    methods = _outputs(run)

    def program(weights, volumes):
        trees = unflatten(weights)
        views = jax.vmap(view)(volumes)[..., None]

        def call(method: str):
            outputs, _ = run_pure(
                run.graphdef,
                trees.get("params", {}),
                trees.get("batch_stats", {}),
                views,
                train=False,
                method=method,
            )
            return outputs

        return {
            name: finish(call(method)) for name, (method, finish) in methods.items()
        }

    return program


def _outputs(run: Run) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Gives, by name of the output, the network's method and what follows it."""
    found: dict[str, tuple[str, Callable]] = {"features": ("encode", lambda x: x)}
    if run.kind == "segmentation":
        found["logits"] = ("__call__", lambda x: x)
    if isinstance(run.task, Regression):
        mean, std = run.task.mean, run.task.std
        found["prediction"] = ("__call__", lambda x: x[:, 0] * std + mean)
    if isinstance(run.task, Classification):
        found["probabilities"] = ("__call__", lambda x: jax.nn.softmax(x, axis=-1))
    if run.kind == "finetune" and run.task is None:
        found["outputs"] = ("__call__", lambda x: x)
    return found


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Gives the leaves of a nested dict by dotted path."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = np.asarray(value)
    return found


def unflatten(leaves: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        place = tree
        for key in parents:
            place = place.setdefault(key, {})
        place[name] = leaf
    return tree
