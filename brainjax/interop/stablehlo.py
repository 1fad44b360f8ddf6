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
from jax import export as jax_export

from brainjax.augment import evaluation_view
from brainjax.errors import MissingExtraError
from brainjax.interop.files import write_safetensors
from brainjax.interop.trees import flatten, unflatten
from brainjax.models.convolution import portable_convolutions
from brainjax.models.platforms import traced_for
from brainjax.models.pure import run as run_pure
from brainjax.records.writing import write_atomically
from brainjax.tasks import Classification, Regression
from brainjax.train.networks import are_present
from brainjax.train.restore import Run

FILES = ("model.stablehlo", "weights.safetensors", "model.json")
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
    shape = (*_inputs(run), *run.recipe.shape)
    volumes = jax.ShapeDtypeStruct((batch, *shape), dtype)
    program = jax.jit(make_program(run))
    # One program for all platforms: none may hold what only one of them can run.
    with portable_convolutions(), traced_for("cpu"):
        exported = jax_export.export(program, platforms=PLATFORMS)(shapes, volumes)
    outputs = [list(map(str, leaf.shape)) for leaf in exported.out_avals]
    names = sorted(["features", *_answers(run)])  # as jax orders a dict
    about = {
        "call": "jax.export.deserialize(model).call(weights, volumes)",
        "volumes": {"shape": ["batch", *shape], "dtype": str(dtype)},
        "outputs": dict(zip(names, outputs, strict=True)),
        "unit": run.task.unit if run.task else "",
        "classes": list(getattr(run.task, "classes", ())),
        "recipe": run.recipe.to_dict(),
        "recipe_hash": run.recipe.hash,
        "checkpoint": run.checkpoint,
        "platforms": list(PLATFORMS),
    }
    paths = [out / name for name in FILES]
    write_atomically(paths[0], bytes(exported.serialize()))
    write_safetensors(paths[1], weights)
    write_atomically(paths[2], json.dumps(about, indent=1).encode())
    return paths


def make_program(run: Run) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """Gives (flat weights, volumes as the recipe makes them) -> named outputs.

    Of a run of several inputs the volumes are [batch, inputs, x, y, z]; one that is
    all 0 is missing and does not count. Features are those that the head sees.
    """
    view = partial(evaluation_view, shape=run.view)
    inputs, answers = _inputs(run), _answers(run)

    def program(weights, volumes):
        trees = unflatten(weights)
        parts = trees.get("params", {}), trees.get("batch_stats", {})
        call = partial(run_pure, run.graphdef, *parts, train=False)
        stacked = volumes.reshape(-1, *run.recipe.shape)
        views = jax.vmap(view)(stacked)[..., None]
        views = views.reshape(-1, *inputs, *views.shape[1:])
        features, _ = call(views, method="encode")
        if inputs:
            present = are_present(views)
            features, _ = call(features, present, method="fuse")
        found = {"features": features}
        for name, finish in answers.items():
            if run.kind == "segmentation":
                outputs, _ = call(views)
            else:
                outputs, _ = call(features, method="answer")
            found[name] = finish(outputs)
        return found

    return program


def _inputs(run: Run) -> tuple[int, ...]:
    """Gives the axis of a subject's scans, none where there is one scan."""
    count = run.network.get("inputs", 1)
    return (count,) if count > 1 else ()


def _answers(run: Run) -> dict[str, Callable[[Any], Any]]:
    """Gives, by name of the output beside the features, what follows the network."""
    if run.kind == "segmentation":
        return {"logits": lambda outputs: outputs}
    if isinstance(run.task, Regression):
        return {"prediction": run.task.answer}
    if isinstance(run.task, Classification):
        return {"probabilities": lambda outputs: jax.nn.softmax(outputs, axis=-1)}
    return {"outputs": lambda outputs: outputs} if run.kind == "finetune" else {}
