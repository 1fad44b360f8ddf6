"""Checkpoints as others lay them out, small, with weights made from their names."""

from pathlib import Path

import numpy as np

from brainjax.interop.files import write_torch
from brainjax.interop.layouts import LAYOUTS
from tests.golden.weights import make_weights

TINY = {"shape": 32, "patch": 16, "width": 48, "depth": 2, "heads": 3, "mlp_width": 96}
"""Of a ViT that compiles at once."""

UNETR = {"encoder": {**TINY, "depth": 12}, "feature_size": 4, "outputs": 1}
RESNET = {"depth": 50, "shortcut": "B", "shortcut_bias": True, "init_filters": 4}


def foreign(layout: str, keywords: dict, prefix: str = "") -> dict[str, np.ndarray]:
    """Gives a state dict of a layout, every key below a prefix."""
    rules = LAYOUTS[layout]
    shapes = {entry.theirs: entry.shape for entry in rules.entries(dict(keywords))}
    arrays = make_weights(shapes) | rules.extras(dict(keywords), "")
    return {prefix + key: array for key, array in arrays.items()}


def head(width: int, outputs: int, prefix: str) -> dict[str, np.ndarray]:
    """Gives BrainIAC's linear head."""
    shapes = {
        "classifier.fc.weight": (outputs, width),
        "classifier.fc.bias": (outputs,),
    }
    return {prefix + key: array for key, array in make_weights(shapes).items()}


def lightning(
    path: Path, outputs: int = 1, *, twin: bool = True, keywords: dict = TINY
) -> Path:
    """Writes a downstream file of BrainIAC v2 as Lightning keeps it.

    Lightning's module holds backbone and classifier, and the model made of both: each
    array is there twice.
    """
    arrays = foreign("vit", keywords, "model.backbone.backbone.")
    arrays |= head(keywords["width"], outputs, "model.")
    if twin:
        copies = {k.removeprefix("model."): a for k, a in arrays.items()}
        arrays = copies | arrays
    facts = {"epoch": 3, "hyper_parameters": {"train": {"lr": 0.001}}}
    write_torch(path, arrays, facts=facts)
    return path


def base(path: Path, keywords: dict = TINY, prefix: str = "backbone.") -> Path:
    """Writes a base file of BrainIAC v2."""
    write_torch(path, foreign("vit", keywords, prefix))
    return path
