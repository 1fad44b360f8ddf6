"""MONAI's `UNETR` with instance norms and residual blocks, as BrainIAC segments with.

Its keyword `conv_block` is at its default, True; `norm_name` is "instance".
"""

from collections.abc import Mapping

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import Entry, Keywords, Layout, Shape
from brainjax.interop.layouts import vit
from brainjax.interop.layouts.parts import convolution, size

VIT = "vit."
BLOCKS = "encoder1.layer"
CLIMBS = {"encoder2": ("skip2", 2, 2), "encoder3": ("skip3", 4, 1)} | {
    "encoder4": ("skip4", 8, 0)
}
"""Theirs to ours, channels over the feature size, steps after the first doubling."""

JOINS = {"decoder5": "join4", "decoder4": "join3", "decoder3": "join2"} | {
    "decoder2": "join1"
}

OTHERS = {
    f"{BLOCKS}.norm1.weight": "norms without parameters (norm_name='instance')",
    "encoder2.blocks.0.conv.weight": "convolutions in the skips (conv_block=True)",
}
"""Keys of UNETRs that ours is not, and what was wanted."""


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    for key, wanted in OTHERS.items():
        if key in shapes:
            raise InputRefusedError(f"UNETR: wanted {wanted}, got {key}")
    if "decoder2.conv_block.conv3.conv.weight" not in shapes:
        raise InputRefusedError(
            "UNETR: wanted residual blocks (res_block=True), got no "
            "decoder2.conv_block.conv3.conv.weight"
        )
    outputs, features, *_ = size(shapes, "out.conv.conv.weight", None, None, 1, 1, 1)
    below = {
        key.removeprefix(VIT): shape
        for key, shape in shapes.items()
        if key.startswith(VIT)
    }
    return {"encoder": vit.infer(below), "feature_size": features, "outputs": outputs}


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array, in the order of MONAI's state dict."""
    return _entries(**keywords)


def _entries(
    *, encoder: Keywords, feature_size: int = 16, outputs: int = 1
) -> list[Entry]:
    keywords = _without_name(encoder)
    plan = vit.plan(keywords)
    found = [
        entry._replace(theirs=VIT + entry.theirs, ours=("encoder", *entry.ours))
        for entry in vit.entries(keywords)
    ]
    found += _residual(BLOCKS, ("skip1",), plan.channels, feature_size)
    for theirs, (ours, times, steps) in CLIMBS.items():
        width = times * feature_size
        found += _double(f"{theirs}.transp_conv_init", (ours,), plan.width, width)
        for step in range(steps):
            name, place = f"{theirs}.blocks.{step}", (ours, "steps", str(step))
            found += _double(f"{name}.0", place, width, width)
            found += _residual(f"{name}.1", (*place, "block"), width, width)
    before = plan.width
    for (theirs, ours), times in zip(JOINS.items(), (8, 4, 2, 1), strict=True):
        after = times * feature_size
        found += _double(f"{theirs}.transp_conv", (ours,), before, after)
        found += _residual(f"{theirs}.conv_block", (ours, "block"), 2 * after, after)
        before = after
    return found + convolution(
        "out.conv.conv", ("out",), feature_size, outputs, 1, bias=True
    )


def _without_name(encoder: Keywords) -> Keywords:
    return {key: value for key, value in encoder.items() if key != "name"}


def _double(theirs: str, ours: tuple[str, ...], before: int, after: int) -> list[Entry]:
    shape, place = (before, after, 2, 2, 2), (*ours, "double", "kernel")
    return [Entry(f"{theirs}.conv.weight", shape, "params", place, "up_kernel")]


def _residual(
    theirs: str, ours: tuple[str, ...], before: int, after: int
) -> list[Entry]:
    found = convolution(f"{theirs}.conv1.conv", (*ours, "conv1"), before, after)
    found += convolution(f"{theirs}.conv2.conv", (*ours, "conv2"), after, after)
    if before != after:
        found += convolution(f"{theirs}.conv3.conv", (*ours, "conv3"), before, after, 1)
    return found


def ignore(key: str, keywords: Keywords) -> str:
    """Gives why a key is not needed, or ""."""
    if not key.startswith(VIT):
        return ""
    return vit.ignore(key.removeprefix(VIT), keywords["encoder"])


def extras(keywords: Keywords, flavour: str) -> dict[str, np.ndarray]:
    """Gives what a strict load wants beside the entries: the ViT's."""
    found = vit.extras(_without_name(keywords["encoder"]), flavour)
    return {VIT + key: array for key, array in found.items()}


LAYOUT = Layout(
    name="MONAI UNETR",
    encoder="unetr",
    anchors=(f"{BLOCKS}.conv1.conv.weight",),
    infer=infer,
    entries=entries,
    ignore=ignore,
    extras=extras,
    checked="MONAI 1.6.1, every level; 1.3.2, 1.4.0 and 1.5.2 once, by hand",
)
