"""Runs given back: safetensors or PyTorch files under MONAI's names, or StableHLO."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.errors import InputRefusedError
from brainjax.interop.files import write_safetensors, write_torch
from brainjax.interop.layout import scatter
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.stablehlo import export_stablehlo, flatten
from brainjax.train.restore import Run, load_run

FORMATS = ("safetensors", "torch", "stablehlo")
NAMINGS = ("monai", "brainiac")
LAYOUT_OF = {"vit": "vit", "resnet": "resnet", "segresnet": "segresnet"}
LAYOUT_OF |= {"densenet": "densenet"}
"""Layout of MONAI for each encoder that MONAI has, too."""

Arrays = dict[str, np.ndarray]


def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    to: str = "safetensors",
    naming: str = "monai",
    monai: str = "",
) -> list[Path]:
    """Writes a run for use without brainjax; `convert` reads it back exactly.

    Args:
        run: a run's folder, or a run that was read.
        out: a folder, made if it is not there; files of these names are replaced.
        to: "safetensors" or "torch" (both: encoder, and head where there is one), or
            "stablehlo" (the compiled program, its weights and a description).
        naming: "monai" writes the encoder as MONAI's own network loads it strictly, and
            the head as `torch.nn.Sequential(LayerNorm, Linear)` or `Linear` does;
            "brainiac" writes one file in BrainIAC's layout. An encoder that MONAI does
            not have keeps our names.
        monai: version of MONAI whose ViT is to load it ("1.3", "1.4", "1.5", "1.6");
            the newest if "".

    Returns:
        The files written.

    Raises:
        InputRefusedError: no such run or format, or a network that the naming lacks.
    """
    loaded = run if isinstance(run, Run) else load_run(run)
    _choose("--to", to, FORMATS)
    _choose("--naming", naming, NAMINGS)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputRefusedError(f"{out}: wanted a folder, got a file")
    out.mkdir(parents=True, exist_ok=True)
    if to == "stablehlo":
        return export_stablehlo(loaded, out)
    files = name_arrays(loaded, naming=naming, monai=monai)
    suffix = ".safetensors" if to == "safetensors" else ".ckpt"
    about = describe(loaded)
    written = []
    for name, arrays in files.items():
        path = out / f"{name}{suffix}"
        if to == "safetensors":
            write_safetensors(path, arrays, metadata={"brainjax": json.dumps(about)})
        else:
            write_torch(path, arrays, facts={"brainjax": json.dumps(about)})
        written.append(path)
    return written


def name_arrays(run: Run, *, naming: str, monai: str = "") -> dict[str, Arrays]:
    """Gives arrays by foreign key, by the name of the file they belong in.

    Raises:
        InputRefusedError: the naming has no such network.
    """
    if run.kind == "segmentation":
        arrays = _scatter("unetr", run.network, _trees(run), monai)
        if naming == "monai":
            return {"segmentation": arrays}
        return {"model": {f"model.unetr.{key}": arrays[key] for key in arrays}}
    encoder = dict(run.network["encoder"])
    name = encoder.pop("name", "vit")
    trees = {part: tree.get("encoder", {}) for part, tree in _trees(run).items()}
    if name not in LAYOUT_OF:
        if naming == "brainiac":
            raise InputRefusedError(f"{run.folder}: BrainIAC has no encoder {name!r}")
        arrays = flatten(trees)
    else:
        arrays = _scatter(LAYOUT_OF[name], encoder, trees, monai)
    head = run.params.get("head")
    if naming == "brainiac":
        return {"model": _brainiac(run, arrays, head)}
    files = {"encoder": arrays}
    return files | ({"head": name_head(head)} if head else {})


def describe(run: Run) -> dict[str, Any]:
    """Gives what another reader must know beside the arrays, as JSON values."""
    return {
        "version": __version__,
        "kind": run.kind,
        "network": run.network,
        "view": list(run.view),
        "recipe": run.recipe.to_dict(),
        "task": None if run.task is None else run.task.to_dict(),
        "checkpoint": run.checkpoint,
    }


def name_head(head: Mapping[str, Any]) -> Arrays:
    """Gives a head as `torch.nn.Linear` has it, or `Sequential(LayerNorm, Linear)`."""
    linear = {
        "weight": np.ascontiguousarray(np.asarray(head["linear"]["kernel"]).T),
        "bias": np.asarray(head["linear"]["bias"]),
    }
    if "norm" not in head:
        return linear
    norm = {
        "0.weight": np.asarray(head["norm"]["scale"]),
        "0.bias": np.asarray(head["norm"]["bias"]),
    }
    return norm | {f"1.{key}": array for key, array in linear.items()}


def _brainiac(run: Run, arrays: Arrays, head: Any) -> Arrays:
    if head is None:
        return {f"backbone.{key}": array for key, array in arrays.items()}
    if "norm" in head:
        raise InputRefusedError(
            f"{run.folder}: BrainIAC's head is one linear layer, this one has a "
            "LayerNorm before it; fine-tune with --config.head.norm=false, or export "
            "with --naming monai"
        )
    found = {f"model.backbone.backbone.{key}": array for key, array in arrays.items()}
    fc = {f"model.classifier.fc.{key}": array for key, array in name_head(head).items()}
    return found | fc


def _scatter(
    layout: str, keywords: Mapping[str, Any], trees: Mapping[str, Any], monai: str
) -> Arrays:
    rules = LAYOUTS[layout]
    entries = rules.entries(dict(keywords))
    return scatter(entries, trees) | rules.extras(dict(keywords), monai)


def _trees(run: Run) -> dict[str, Any]:
    return {"params": run.params, "batch_stats": run.batch_stats}


def _choose(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputRefusedError(
            f"{name}: wanted one of {', '.join(allowed)}, got {value!r}"
        )
