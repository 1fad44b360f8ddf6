"""Other people's checkpoints, read as a run: exact, and without their frameworks."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.interop.account import Row
from brainjax.interop.files import TensorFile, open_tensors
from brainjax.interop.networks import Network, as_two, read_network
from brainjax.interop.origins import ORIGINS
from brainjax.interop.own import Description, read_description, read_own
from brainjax.interop.recognise import in_file
from brainjax.interop.statement import Statement
from brainjax.models.encoded import triple
from brainjax.tasks import Classification, Regression, Task
from brainjax.train.folder import RunFolder, write_json
from brainjax.train.restore import Run, describe_run, plan_network
from brainjax.volume.recipe import AnyRecipe, make_recipe


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
        for every key. Its `checkpoint` is the hash of the weights that were read.

    Raises:
        InputRefusedError: no such file, hostile, not understood to the last key, or a
            statement that does not fit it.
    """
    if "://" in str(address) and not str(address).startswith("hf://"):
        raise InputRefusedError(
            f"{address}: wanted a file, or hf://owner/name/file, got another address"
        )
    file, statement = open_tensors(address), statement or Statement()
    description = read_description(file)
    if description is None:
        network = read_network(file, statement)
        network, task = _fit_task(file, network, statement.task)
        recipe = _choose_recipe(file, network.origin, statement.recipe)
    else:
        network = read_own(file, description, statement)
        task = description.task if network.kind == "finetune" else None
        recipe = _same_recipe(file, description, statement.recipe)
    run = _as_run(file, network, task, recipe)
    subjects = description.subjects if description else []
    return Conversion(run._replace(subjects=subjects), network.origin, network.rows)


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
    out = Path(out)
    _refuse_full(out)
    conversion = read_checkpoint(address, statement)
    # Whole or not at all: a call that was killed leaves nothing under this name.
    half = out.with_name(f".{out.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        _write(address, RunFolder(half), conversion)
        os.replace(half, out)
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a folder to write in, got {error.strerror}"
        ) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return conversion._replace(run=conversion.run._replace(folder=out))


def _write(address: str | Path, folder: RunFolder, conversion: Conversion) -> None:
    run = conversion.run
    source = {
        "file": str(address),
        "weights": run.checkpoint,
        "origin": conversion.origin,
    }
    folder.claim({"kind": run.kind, "converted": source, "seed": 0})
    about = describe_run(
        kind=run.kind,
        network=run.network,
        view=run.view,
        recipe=run.recipe,
        task=run.task,
        subjects=run.subjects,
        data="",
        donor=run.checkpoint,
    )
    checkpoints = Checkpoints(folder.checkpoints)
    state = {"params": run.params, "batch_stats": run.batch_stats}
    checkpoints.save(0, state, about, wait=True)
    checkpoints.close()
    table = [{**row._asdict(), "shape": list(row.shape)} for row in conversion.rows]
    write_json(folder.path / "conversion.json", {**source, "keys": table})


def _as_run(
    file: TensorFile, network: Network, task: Task | None, recipe: AnyRecipe
) -> Run:
    view = in_file(file, lambda: triple(network.encoder["shape"], "shape"))
    if recipe.storage == "float32" and recipe.shape != view:
        raise InputRefusedError(
            f"{file.path}: takes volumes of {view}, recipe {recipe.name} makes "
            f"{recipe.shape}; state another --recipe"
        )
    keywords = json.loads(json.dumps(network.keywords))  # as a checkpoint gives them
    planned = in_file(file, lambda: plan_network(network.kind, keywords))
    trees = {"params": network.params, "batch_stats": network.batch_stats}
    wanted = {"params": planned.params, "batch_stats": planned.batch_stats}
    _refuse_incomplete(file, wanted, trees)
    return Run(
        folder=file.path,
        kind=network.kind,
        network=keywords,
        view=view,
        recipe=recipe,
        task=task,
        graphdef=planned.graphdef,
        **jax.device_put(trees),
        step=0,
        checkpoint=network.hash,
        subjects=[],
    )


def _fit_task(
    file: TensorFile, network: Network, task: Task | None
) -> tuple[Network, Task | None]:
    """Fits a stated task to the head: nothing is learnt, so mean 0 and spread 1."""
    if task is None:
        return network, None
    if network.kind != "finetune":
        raise InputRefusedError(f"{file.path}: wanted a head for --task, got none")
    outputs = network.keywords["outputs"]
    if isinstance(task, Regression):
        if outputs != 1:
            raise InputRefusedError(
                f"{file.path}: wanted a head of 1 output for a regression, got "
                f"{outputs}"
            )
        return network, replace(task, mean=0.0, std=1.0)
    assert isinstance(task, Classification)
    if outputs == 1 and len(task.classes) == 2:
        network = as_two(network)
    elif outputs != len(task.classes):
        raise InputRefusedError(
            f"{file.path}: wanted {max(outputs, 2)} --classes for a head of {outputs} "
            f"outputs, got {', '.join(task.classes)}"
        )
    return network, replace(task, counts=(1,) * len(task.classes))


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


def _same_recipe(
    file: TensorFile, description: Description, stated: AnyRecipe | None
) -> AnyRecipe:
    """Gives the recipe a file was written with; one stated by name must be that."""
    own = description.recipe
    if stated is not None and stated.name != own.name:
        raise InputRefusedError(
            f"{file.path}: learnt from recipe {own.describe()} {own.hash}, and answers "
            f"through no other, got --recipe {stated.describe()}"
        )
    return own


def _refuse_full(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputRefusedError(f"{path}: wanted a folder, got a file")
    if path.exists() and any(path.iterdir()):
        raise InputRefusedError(f"{path}: wanted a new or empty folder, got a full one")


def _refuse_incomplete(file: TensorFile, wanted: Any, trees: Any) -> None:
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
