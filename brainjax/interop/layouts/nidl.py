"""The `VisionTransformer3D` of nidl, whose blocks are timm's.

As MONAI's ViT, but for the names, and learned positions that can also cover class token
and registers. A file does not hold sin-cos positions, so it does not tell them from
none; their order is not that of our "sincos" either. Such files are refused.
"""

import re
from collections.abc import Mapping

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import Entry, Keywords, Layout, Shape
from brainjax.interop.layouts.parts import size
from brainjax.interop.layouts.vit import (
    block_entries,
    infer_blocks,
    norm,
    plan,
    side_of,
)

PATCHES = "patch_embed.proj"
POSITIONS = "pos_embed"
BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "out",
    "norm2": "norm2",
    "mlp.fc1": "mlp1",
    "mlp.fc2": "mlp2",
}
"""A block's layers, in nidl's order: theirs to ours."""

REFUSED = {
    r"norm_pre\.": "a norm before the blocks (pre_norm)",
    r"fc_norm\.": "a norm behind the pooling (fc_norm, as of global_pool='avg')",
    r"blocks\.0\.attn\.(q_norm|k_norm)\.": "norms of queries and keys (qk_norm)",
    r"blocks\.0\.(attn|mlp)\.norm\.": "norms inside a block (scale_..._norm)",
}
"""Layers that our ViT does not have."""


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    for pattern, layer in REFUSED.items():
        if key := next((key for key in shapes if re.match(pattern, key)), ""):
            raise InputRefusedError(f"nidl: wanted no {layer}, got {key}")
    if POSITIONS not in shapes:
        raise InputRefusedError(
            f"nidl: wanted learned positions ({POSITIONS}), got none: a file does not "
            "tell sin-cos positions from none"
        )
    found = infer_blocks(shapes, BLOCK)
    width = found["width"]
    _, channels, *patch = size(shapes, f"{PATCHES}.weight", width, *[None] * 4)
    found |= {"patch": tuple(patch), "channels": channels}
    prefix = 0
    if "cls_token" in shapes:
        found |= {"class_token": True, "pool": "class_token"}
        prefix += 1
    if "reg_token" in shapes:
        _, found["registers"], _ = size(shapes, "reg_token", 1, None, width)
        prefix += found["registers"]
    _, count, _ = size(shapes, POSITIONS, 1, None, width)
    return found | _read_grid(count, prefix, found["patch"])


def _read_grid(count: int, prefix: int, patch: Shape) -> Keywords:
    """A cube of patches, with or without positions for the prefix, tells the shape."""
    if prefix and (side := side_of(count - prefix)):
        covered = True
    else:
        covered, side = False, side_of(count)
    if not side:
        return {"prefix_positions": prefix > 0}
    return {"prefix_positions": covered, "shape": tuple(side * p for p in patch)}


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array, in the order of nidl's state dict."""
    vit = plan(keywords)
    if vit.position_kind != "learned":
        raise InputRefusedError(
            f"nidl: wanted learned positions, got {vit.position_kind}"
        )
    theirs = {"class_token": "cls_token", "registers": "reg_token"}
    found = [
        Entry(theirs[name], getattr(vit, name).shape, "params", (name,))
        for name in vit.prefix_names
    ]
    shape = (vit.width, vit.channels, *vit.patch)
    kernel, bias = ("embed", "kernel"), ("embed", "bias")
    return [
        *found,
        Entry(POSITIONS, vit.positions.shape, "params", ("positions",)),
        Entry(f"{PATCHES}.weight", shape, "params", kernel, "patch"),
        Entry(f"{PATCHES}.bias", (vit.width,), "params", bias),
        *block_entries(vit, BLOCK),
        *norm(vit),
    ]


def ignore(key: str, keywords: Keywords) -> str:
    """Gives why a key is not needed: there is none such."""
    return ""


def extras(keywords: Keywords, flavour: str) -> dict[str, np.ndarray]:
    """Gives what a strict load wants beside the entries: nothing."""
    return {}


LAYOUT = Layout(
    name="nidl VisionTransformer3D",
    encoder="vit",
    anchors=(f"{PATCHES}.weight",),
    infer=infer,
    entries=entries,
    ignore=ignore,
    extras=extras,
    heads=("head",),
    checked="nidl 0.0.2 with timm 1.0.31, every block",
)
