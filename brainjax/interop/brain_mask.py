"""A brain-mask run as the weights that ship: what `volume/brain_own.py` reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.errors import InputRefusedError
from brainjax.interop.safetensors_files import write_safetensors
from brainjax.interop.trees import flatten
from brainjax.train.restore import Run, hash_subject
from brainjax.volume.brain_own import FACT, RECIPE, WEIGHTS

NAME = WEIGHTS.name
MOST_BYTES = 5_000_000
LICENCE = "CC BY-SA 3.0"
SOURCES = "IXI (brain-development.org); labels by DLMUSE; see LICENSE.md"


def export_brain_mask(run: Run, out: Path) -> Path:
    """Writes the network of a brain-mask run, float16, without its deeper outputs.

    The file says what it is: network, task, recipe, checkpoint, the subjects it learnt
    from (hashed), licence and sources. The same run gives the same bytes.

    Raises:
        InputRefusedError: a run of another kind, network, recipe or number of outputs,
            numbers that float16 has not, or a file over 5 MB.
    """
    _check(run)
    params = {
        key: value
        for key, value in flatten(run.params["segmenter"]).items()
        if not key.startswith("deep_outs.")
    }
    with np.errstate(over="ignore"):  # refused below
        arrays = {key: value.astype(np.float16) for key, value in params.items()}
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputRefusedError(f"{run.folder}: {key}: wanted what float16 holds")
    path = out / NAME
    # One text alone: of several the format would not keep the order.
    about = json.dumps(describe_mask(run), sort_keys=True)
    write_safetensors(path, arrays, metadata={FACT: about})
    size = path.stat().st_size
    if size > MOST_BYTES:
        path.unlink()
        raise InputRefusedError(
            f"{run.folder}: wanted at most {MOST_BYTES} bytes of weights, got {size}"
        )
    return path


def describe_mask(run: Run) -> dict[str, Any]:
    """Gives what lies beside the weights, as JSON values."""
    assert run.task is not None, "a segmentation run has one"
    return {
        "version": __version__,
        "network": run.network,
        "task": run.task.to_dict(),
        "recipe": run.recipe.to_dict(),
        "checkpoint": run.checkpoint,
        "step": run.step,
        "subjects": sorted(hash_subject(name) for name in run.subjects),
        "licence": LICENCE,
        "sources": SOURCES,
    }


def _check(run: Run) -> None:
    if run.kind != "segment":
        raise InputRefusedError(
            f"{run.folder}: wanted a segmentation run, got one of kind {run.kind}"
        )
    name = run.network["segmenter"].get("name", "unet")
    inputs = max(len(run.network.get("sequences", ())), 1)
    wanted, got = ("unet", 1, 1), (name, inputs, run.network["outputs"])
    if got != wanted:
        raise InputRefusedError(
            f"{run.folder}: wanted segmenter unet of 1 sequence and 1 output, got "
            f"{name} of {inputs} and {run.network['outputs']}"
        )
    if run.recipe.hash != RECIPE.hash:
        raise InputRefusedError(
            f"{run.folder}: wanted recipe {RECIPE.describe()} {RECIPE.hash}, got "
            f"{run.recipe.describe()} {run.recipe.hash}"
        )
