"""Other people's checkpoints, read as a run: exact, and without their frameworks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.interop.account import Row
from brainjax.interop.files import TensorFile, open_tensors
from brainjax.interop.networks import Network, read_network, read_own
from brainjax.interop.origins import ORIGINS
from brainjax.interop.statement import Statement
from brainjax.tasks import Classification, Regression, Task, task_from_dict
from brainjax.train.folder import RunFolder, write_json
from brainjax.train.restore import Run, describe_run, plan_network
from brainjax.volume.recipe import AnyRecipe, make_recipe, recipe_from_dict


class Conversion(NamedTuple):
    """A foreign checkpoint as a run, and what became of each of its keys."""

    run: Run
    origin: str
    rows: list[Row]


def read_checkpoint(
    address: str | Path, statement: Statement | None = None
) -> Conversion:
    """Reads another package's checkpoint into memory; writes nothing, runs nothing.

    Args:
        address: a PyTorch, Lightning or safetensors file, or "hf://owner/name/file".
        statement: what the file does not say. Files that `export` wrote say it all.

    Returns:
        The run (kind "encoder", "finetune" with a head, or "segmentation") and a row
        for every key.

    Raises:
        InputRefusedError: no such file, hostile, not understood to the last key, or a
            statement that does not fit it.
    """
    file, statement = open_tensors(address), statement or Statement()
    about = _about(file)
    if about is None:
        network = read_network(file, statement)
        task = _fit_task(file, network, statement.task)
        recipe = _choose_recipe(file, network.origin, statement.recipe)
    else:
        network = read_own(file, about, statement)
        given = about["task"] if network.kind == "finetune" else None
        task = task_from_dict(given) if given else None
        recipe = statement.recipe or recipe_from_dict(about["recipe"])
    view = _three(network.keywords["encoder"]["shape"])
    _refuse_other_size(file, recipe, view)
    keywords = json.loads(json.dumps(network.keywords))  # as a checkpoint gives them
    planned = plan_network(network.kind, keywords)
    trees = {"params": network.params, "batch_stats": network.batch_stats}
    _check_complete(
        file, {"params": planned.params, "batch_stats": planned.batch_stats}, trees
    )
    run = Run(
        folder=file.path,
        kind=network.kind,
        network=keywords,
        view=view,
        recipe=recipe,
        task=task,
        graphdef=planned.graphdef,
        **jax.device_put(trees),
        step=0,
        checkpoint=file.sha256[:12],
        subjects=[],
    )
    return Conversion(run, network.origin, network.rows)


def convert(
    address: str | Path, out: str | Path, statement: Statement | None = None
) -> Conversion:
    """Converts another package's checkpoint to a run folder.

    The folder is what `embed`, `predict`, `export` and `finetune` (as `init`) take. It
    holds the checkpoint, config.json, and conversion.json with what became of every
    key.

    Raises:
        InputRefusedError: as `read_checkpoint`, or `out` is not a new or empty folder.
    """
    folder = RunFolder(out)
    _refuse_full(folder.path)
    conversion = read_checkpoint(address, statement)
    run = conversion.run
    source = {
        "file": str(address),
        "sha256_12": run.checkpoint,
        "origin": conversion.origin,
    }
    folder.claim({"kind": run.kind, "converted": source, "seed": 0})
    about = describe_run(
        kind=run.kind,
        network=run.network,
        view=run.view,
        recipe=run.recipe,
        task=run.task,
        subjects=[],
        data="",
        donor=run.checkpoint,
    )
    checkpoints = Checkpoints(folder.checkpoints)
    state = {"params": run.params, "batch_stats": run.batch_stats}
    checkpoints.save(0, state, about, wait=True)
    digest = checkpoints.hash(0)
    checkpoints.close()
    table = [{**row._asdict(), "shape": list(row.shape)} for row in conversion.rows]
    write_json(folder.path / "conversion.json", {**source, "keys": table})
    return conversion._replace(run=run._replace(folder=folder.path, checkpoint=digest))


def _about(file: TensorFile) -> dict[str, Any] | None:
    """Gives what `export` wrote beside the arrays, None where another package did."""
    text = file.facts.get("brainjax")
    if not isinstance(text, str):
        return None
    try:
        about = json.loads(text)
        if {"kind", "network", "recipe", "task"} <= about.keys():
            return about
    except (ValueError, AttributeError):
        pass  # said below, in the same words
    raise InputRefusedError(
        f"{file.path}: wanted brainjax's description of a run, got {text[:60]!r}"
    )


def _fit_task(file: TensorFile, network: Network, task: Task | None) -> Task | None:
    """Fits a stated task to the head: nothing is learnt, so mean 0 and spread 1."""
    if task is None:
        return None
    if network.kind != "finetune":
        raise InputRefusedError(f"{file.path}: wanted a head for --task, got none")
    outputs = network.keywords["outputs"]
    if isinstance(task, Regression):
        if outputs != 1:
            raise InputRefusedError(
                f"{file.path}: wanted a head of 1 output for a regression, got "
                f"{outputs}"
            )
        return replace(task, mean=0.0, std=1.0)
    assert isinstance(task, Classification)
    if outputs == 1 and len(task.classes) == 2:
        # One logit z, as a sigmoid reads it, is the softmax of (0, z).
        linear = network.params["head"]["linear"]
        linear["kernel"] = np.pad(linear["kernel"], ((0, 0), (1, 0)))
        linear["bias"] = np.pad(linear["bias"], (1, 0))
        network.keywords["outputs"] = 2
    elif outputs != len(task.classes):
        raise InputRefusedError(
            f"{file.path}: wanted {outputs} --classes, one an output of the head, got "
            f"{', '.join(task.classes)}"
        )
    return replace(task, counts=(1,) * len(task.classes))


def _choose_recipe(
    file: TensorFile, origin: str, recipe: AnyRecipe | None
) -> AnyRecipe:
    if recipe is not None:
        return recipe
    if not ORIGINS[origin].recipe:
        raise InputRefusedError(
            f"{file.path}: wanted --recipe: how scans were prepared for "
            f"{ORIGINS[origin].name} is not in the file"
        )
    return make_recipe(ORIGINS[origin].recipe)


def _refuse_other_size(
    file: TensorFile, recipe: AnyRecipe, view: tuple[int, int, int]
) -> None:
    if recipe.storage == "float32" and recipe.shape != view:
        raise InputRefusedError(
            f"{file.path}: takes volumes of {view}, recipe {recipe.name} makes "
            f"{recipe.shape}; state another --recipe"
        )


def _refuse_full(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputRefusedError(f"{path}: wanted a folder, got a file")
    if path.exists() and any(path.iterdir()):
        raise InputRefusedError(f"{path}: wanted a new or empty folder, got a full one")


def _check_complete(file: TensorFile, wanted: Any, trees: Any) -> None:
    """No leaf of ours without a value, and no value without a leaf of its shape."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}

    ours, theirs = shapes(wanted), shapes(trees)
    wrong = [k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k)]
    if wrong:
        key = min(wrong)
        raise InputRefusedError(
            f"{file.path}: {key} wanted {ours.get(key)}, got {theirs.get(key)}"
        )


def _three(shape: Any) -> tuple[int, int, int]:
    x, y, z = (shape,) * 3 if isinstance(shape, int) else shape
    return x, y, z
