"""MONAI's `ViT`, of every key set from 1.3 to 1.6.

MONAI 1.4 and 1.5 hold cross attention that a `ViT` never runs, 1.6 the norm before it;
1.3 neither. A file does not tell the number of heads: it is told by the width where
only one is usual. Behind `classification_head.0` (not `classification_head`) MONAI has
a tanh.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import Entry, Keywords, Layout, Shape
from brainjax.interop.layouts.parts import size
from brainjax.models.positions import is_sincos, sincos_positions
from brainjax.models.vit import SIZES, ViT

__all__ = ["LAYOUT", "block_entries", "infer_blocks", "is_sincos", "plan", "side_of"]

POSITIONS = "patch_embedding.position_embeddings"
CONV = "patch_embedding.patch_embeddings"
PERCEPTRON = "patch_embedding.patch_embeddings.1"
BLOCK = {
    "mlp.linear1": "mlp1",
    "mlp.linear2": "mlp2",
    "norm1": "norm1",
    "attn.out_proj": "out",
    "attn.qkv": "qkv",
    "norm2": "norm2",
}
"""A block's layers, in MONAI's order: theirs to ours."""

FLAVOURS = ("", "1.3", "1.4", "1.5", "1.6")


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    found = infer_blocks(shapes, BLOCK)
    width = found["width"]
    if f"{PERCEPTRON}.weight" in shapes:
        found["projection"] = "perceptron"
        _, voxels = size(shapes, f"{PERCEPTRON}.weight", width, None)
        # Of several channels the file does not tell which of the factors they are.
        if side := side_of(voxels):
            found |= {"patch": (side,) * 3, "channels": 1}
    else:
        _, channels, *patch = size(shapes, f"{CONV}.weight", width, *[None] * 4)
        found |= {"patch": tuple(patch), "channels": channels}
    _, count, _ = size(shapes, POSITIONS, 1, None, width)
    side = side_of(count)
    if side and "patch" in found:
        found["shape"] = tuple(side * p for p in found["patch"])
    if "cls_token" in shapes:
        found |= {"class_token": True, "pool": "class_token"}
    return found


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array of the ViT, in the order of MONAI's state dict."""
    vit = plan(keywords)
    if vit.prefix_positions or "registers" in vit.prefix_names:
        raise InputRefusedError(
            "MONAI ViT: wanted no registers and no prefix_positions, "
            f"got {vit.prefix_names} and {vit.prefix_positions}"
        )
    token = Entry("cls_token", (1, 1, vit.width), "params", ("class_token",))
    found = [token] if vit.prefix else []
    if vit.position_kind == "learned":
        shape = vit.positions.shape
        found.append(Entry(POSITIONS, shape, "params", ("positions",)))
    return [*found, *_patch_product(vit), *block_entries(vit, BLOCK), *norm(vit)]


def _patch_product(vit: ViT) -> list[Entry]:
    ours = ("embed", "kernel")
    if vit.projection == "conv":
        shape = (vit.width, vit.channels, *vit.patch)
        name, kernel = CONV, Entry(f"{CONV}.weight", shape, "params", ours, "patch")
    else:
        shape = vit.embed.kernel.shape[::-1]
        name = PERCEPTRON
        kernel = Entry(f"{name}.weight", shape, "params", ours, "transposed")
    return [kernel, Entry(f"{name}.bias", (vit.width,), "params", ("embed", "bias"))]


def ignore(key: str, keywords: Keywords) -> str:
    """Gives why a key is not needed, or ""."""
    if re.match(r"blocks\.\d+\.(norm_cross_attn|cross_attn)\.", key):
        return "cross attention, which MONAI's ViT does not use"
    if key == POSITIONS and keywords.get("positions") == "sincos":
        return "equals the sin-cos formula"
    return ""


def extras(keywords: Keywords, flavour: str) -> dict[str, np.ndarray]:
    """Gives what a strict load wants beside the entries; nothing of it changes numbers.

    A class token also wants a head (`classification_head`), which is not here.

    Raises:
        InputRefusedError: `flavour` is not one of `FLAVOURS`.
    """
    if flavour not in FLAVOURS:
        raise InputRefusedError(f"MONAI: wanted one of {FLAVOURS}, got {flavour!r}")
    vit = plan(keywords)
    found = {}
    if vit.position_kind == "sincos":
        found[POSITIONS] = sincos_positions(vit.grid, vit.width)
    if flavour == "1.3":
        return found
    for layer in range(vit.depth):
        block = f"blocks.{layer}"
        found[f"{block}.norm_cross_attn.weight"] = np.ones(vit.width, np.float32)
        found[f"{block}.norm_cross_attn.bias"] = np.zeros(vit.width, np.float32)
        if flavour in ("1.4", "1.5"):
            found |= _unused_attention(f"{block}.cross_attn", vit)
    return found


def _unused_attention(name: str, vit: ViT) -> dict[str, np.ndarray]:
    found = {}
    for layer in ("out_proj", "to_q", "to_k", "to_v"):
        found[f"{name}.{layer}.weight"] = np.zeros((vit.width, vit.width), np.float32)
        if vit.qkv_bias or layer == "out_proj":
            found[f"{name}.{layer}.bias"] = np.zeros(vit.width, np.float32)
    return found


def plan(keywords: Keywords) -> ViT:
    """Gives the ViT of these keywords, its parameters only shapes.

    Raises:
        InputRefusedError: it cannot be built.
    """
    return nnx.eval_shape(lambda: ViT(rngs=nnx.Rngs(0), **keywords))


def side_of(count: int) -> int:
    """Gives the side of a cube of `count` cells, 0 where it is none."""
    side = round(count ** (1 / 3))
    return side if side**3 == count else 0


def infer_blocks(shapes: Mapping[str, Shape], names: Mapping[str, str]) -> Keywords:
    """Gives what the blocks tell; `names` are a block's layers, theirs to ours.

    Raises:
        InputRefusedError: a layer is missing or of another size.
    """
    theirs = {ours: name for name, ours in names.items()}
    depth = _count_blocks(shapes)
    (width,) = size(shapes, "norm.weight", None)
    mlp_width, _ = size(shapes, f"blocks.0.{theirs['mlp1']}.weight", None, width)
    size(shapes, f"blocks.0.{theirs['qkv']}.weight", 3 * width, width)
    found: Keywords = {"width": width, "depth": depth, "mlp_width": mlp_width}
    # MONAI's default is 12 heads at every width: where that fits, it cannot be told.
    usual = {sizes["width"]: sizes["heads"] for sizes in SIZES.values()}
    if width in usual and (usual[width] == 12 or width % 12):
        found["heads"] = usual[width]
    found["qkv_bias"] = f"blocks.0.{theirs['qkv']}.bias" in shapes
    return found


def _count_blocks(keys: Iterable[str]) -> int:
    matches = [match for key in keys if (match := re.match(r"blocks\.(\d+)\.", key))]
    numbers = sorted({int(match[1]) for match in matches})
    if not numbers or numbers != list(range(len(numbers))):
        raise InputRefusedError(f"wanted blocks numbered from 0, got {numbers}")
    return len(numbers)


def block_entries(vit: ViT, names: Mapping[str, str]) -> list[Entry]:
    """Gives the entries of every block; `names` as in `infer_blocks`."""
    width, mlp = vit.width, vit.mlp_width
    sides = {
        "qkv": (3 * width, width),
        "out": (width, width),
        "mlp1": (mlp, width),
        "mlp2": (width, mlp),
    }
    found = []
    for layer in range(vit.depth):
        for name, ours in names.items():
            theirs, place = f"blocks.{layer}.{name}", ("blocks", ours)
            if ours in sides:
                bias = vit.qkv_bias or ours != "qkv"
                found += _linear(theirs, place, sides[ours], bias, layer)
            else:
                found += norm(vit, theirs, place, layer)
    return found


def norm(
    vit: ViT,
    theirs: str = "norm",
    ours: tuple[str, ...] = ("norm",),
    layer: int | None = None,
) -> list[Entry]:
    """Gives the entries of a LayerNorm, if not stated otherwise the last one."""
    shape = (vit.width,)
    return [
        Entry(f"{theirs}.weight", shape, "params", (*ours, "scale"), "same", layer),
        Entry(f"{theirs}.bias", shape, "params", (*ours, "bias"), "same", layer),
    ]


def _linear(
    theirs: str, ours: tuple[str, ...], shape: Shape, bias: bool, layer: int
) -> list[Entry]:
    kernel = (*ours, "kernel")
    found = [Entry(f"{theirs}.weight", shape, "params", kernel, "transposed", layer)]
    if bias:
        place = (*ours, "bias")
        found += [Entry(f"{theirs}.bias", shape[:1], "params", place, "same", layer)]
    return found


LAYOUT = Layout(
    name="MONAI ViT",
    encoder="vit",
    anchors=(f"{CONV}.weight", f"{PERCEPTRON}.weight"),
    infer=infer,
    entries=entries,
    ignore=ignore,
    extras=extras,
    heads=("classification_head.0", "classification_head"),
    checked="MONAI 1.6.1, every block; 1.3.2, 1.4.0 and 1.5.2 once, by hand",
)
