"""Runs given back: safetensors or PyTorch files under MONAI's names, or StableHLO."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.errors import InputRefusedError
from brainjax.interop.brain_mask import NAME as BRAIN_MASK
from brainjax.interop.brain_mask import export_brain_mask
from brainjax.interop.files import write_safetensors, write_torch
from brainjax.interop.layout import scatter
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.own import FACT, MONAI_NAMED, is_nidl
from brainjax.interop.stablehlo import FILES as STABLEHLO
from brainjax.interop.stablehlo import export_stablehlo
from brainjax.interop.trees import flatten
from brainjax.models.encoded import choice
from brainjax.train.restore import Run, hash_subject, load_run, without_adapters

FORMATS = ("safetensors", "torch", "stablehlo", "brain_mask")
NAMINGS = ("monai", "brainiac")
VERSIONS = ("1.3", "1.4", "1.5", "1.6")

BRAINIAC = ("vit", "resnet")
"""Encoders that BrainIAC has."""

Arrays = dict[str, np.ndarray]


def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    to: str = "safetensors",
    naming: str = "monai",
    monai_version: str = "",
) -> list[Path]:
    """Writes a run for use without brainjax; `convert` reads it back exactly.

    Args:
        run: a run's folder, or a run that was read.
        out: a folder, made if it is not there; a file that is there is not replaced.
        to: "safetensors" or "torch" (both: encoder, and head where there is one), or
            "stablehlo" (the compiled program, its weights and a description), or
            "brain_mask" (the weights that `--mask own` reads, of a run that finds it).
        naming: "monai" writes the encoder as MONAI's own network loads it strictly (its
            DenseNet, and its ViT with a class token, have a head that is not here), and
            the head as `torch.nn.Sequential(LayerNorm, Linear)` or `Linear` does;
            "brainiac" writes one file in BrainIAC's layout. A ViT with registers has
            nidl's names, an encoder that neither has ours. A projector stays behind;
            adapters are added to the kernels that they adapt.
        monai_version: of the MONAI whose ViT is to load it ("1.3", "1.4", "1.5",
            "1.6"); the newest if "".

    Returns:
        The files written.

    Raises:
        InputRefusedError: no such run or format, or a network that the naming lacks.
    """
    loaded = run if isinstance(run, Run) else load_run(run)
    choice(to, FORMATS, "--to")
    choice(naming, NAMINGS, "--naming")
    if monai_version:
        choice(monai_version, VERSIONS, "--monai-version")
    out = Path(out)
    if to == "stablehlo" and loaded.kind == "segment":
        raise InputRefusedError(
            f"{loaded.folder}: wanted --to safetensors of a segmentation run, got {to}"
        )
    if to in ("stablehlo", "brain_mask"):
        if naming != "monai" or monai_version:
            raise InputRefusedError(
                f"--to {to}: wanted neither --naming nor --monai-version"
            )
        _refuse_taken(out, STABLEHLO if to == "stablehlo" else [BRAIN_MASK])
        out.mkdir(parents=True, exist_ok=True)
        if to == "brain_mask":
            return [export_brain_mask(loaded, out)]
        return export_stablehlo(loaded, out)
    loaded = without_adapters(loaded)
    _refuse_other_heads(loaded)
    files = name_arrays(loaded, naming=naming, monai_version=monai_version)
    suffix = ".safetensors" if to == "safetensors" else ".ckpt"
    about = describe(loaded)
    _refuse_taken(out, [name + suffix for name in files])
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, arrays in files.items():
        path = out / f"{name}{suffix}"
        if to == "safetensors":
            write_safetensors(path, arrays, metadata={FACT: json.dumps(about)})
        else:
            write_torch(path, arrays, facts={FACT: json.dumps(about)})
        written.append(path)
    return written


def name_arrays(run: Run, *, naming: str, monai_version: str = "") -> dict[str, Arrays]:
    """Gives arrays by foreign key, by the name of the file they belong in.

    Raises:
        InputRefusedError: the naming has no such network.
    """
    trees = {"params": run.params, "batch_stats": run.batch_stats}
    if run.kind == "segment":
        if naming != "monai":
            raise InputRefusedError(
                f"{run.folder}: wanted no naming for a segmenter of ours, got {naming}"
            )
        return {"segmenter": flatten(trees)}
    encoder = dict(run.network["encoder"])
    name = encoder.pop("name", "vit")
    if naming == "brainiac" and name not in BRAINIAC:
        raise InputRefusedError(f"{run.folder}: BrainIAC has no encoder {name!r}")
    if monai_version and name != "vit":
        raise InputRefusedError(
            f"--monai-version: wanted none for {name}, whose keys are the same in all"
        )
    if run.kind == "segmentation":
        arrays = _scatter("unetr", run.network, trees, monai_version)
        if naming == "monai":
            return {"segmentation": arrays}
        return {"model": {f"model.unetr.{key}": a for key, a in arrays.items()}}
    trees = {part: tree.get("encoder", {}) for part, tree in trees.items()}
    if name in MONAI_NAMED:
        layout = "nidl" if is_nidl(name, encoder) else name
        arrays = _scatter(layout, encoder, trees, monai_version)
    else:
        arrays = flatten(trees)
    head = run.params.get("head")
    if naming == "brainiac":
        return {"model": _brainiac(run, arrays, head)}
    return {"encoder": arrays} | ({"head": name_head(head)} if head else {})


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
        # Hashed: the guard against testing on them must hold, their names need not.
        "subjects": [hash_subject(name) for name in run.subjects],
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
    linear = name_head(head)
    if len(linear["bias"]) == 2 and not (
        linear["weight"][0].any() or linear["bias"][0]
    ):
        # Two logits of which the first is always 0 are the one that BrainIAC has.
        linear = {key: array[1:] for key, array in linear.items()}
    return found | {f"model.classifier.fc.{key}": a for key, a in linear.items()}


def _scatter(
    layout: str, keywords: Mapping[str, Any], trees: Mapping[str, Any], version: str
) -> Arrays:
    rules = LAYOUTS[layout]
    entries = rules.entries(dict(keywords))
    return scatter(entries, trees) | rules.extras(dict(keywords), version)


def _refuse_other_heads(run: Run) -> None:
    """Refuses what no layer of these namings stands for."""
    parts = [name for name in ("pool", "fusion") if name in run.params]
    parts += ["hidden layer"] if "mlp" in run.params.get("head", {}) else []
    if run.network.get("fusion", "mean") != "mean" or parts:
        raise InputRefusedError(
            f"{run.folder}: wanted a linear head on pooled features, got one with "
            f"{', '.join(parts) or run.network['fusion']}; use --to stablehlo"
        )


def _refuse_taken(out: Path, names: Iterable[str]) -> None:
    if out.exists() and not out.is_dir():
        raise InputRefusedError(f"{out}: wanted a folder, got a file")
    for name in names:
        if (out / name).exists():
            raise InputRefusedError(
                f"{out / name}: is there already; choose another --out"
            )
