"""MONAI's ResNet, which MedicalNet and 3D-Neuro-SimCLR name alike.

A file does not tell the stem's stride, whether a maximum follows it, or whether stages
3 and 4 are dilated: whoever converts states these.
"""

from collections.abc import Mapping

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import Entry, Keywords, Layout, Shape
from brainjax.interop.layouts.parts import (
    batch_norm,
    convolution,
    count_levels,
    counters_of,
    ignore_counter,
    size,
)
from brainjax.models.resnet import BLOCKS, BOTTLENECKS, expansion


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    filters, channels, *_ = size(shapes, "conv1.weight", None, None, 7, 7, 7)
    blocks = count_levels(shapes, "layer{}.{}.", firsts=(1, 0))
    bottleneck = "layer1.0.conv3.weight" in shapes
    depths = [
        depth
        for depth, counts in BLOCKS.items()
        if counts == blocks and (depth in BOTTLENECKS) == bottleneck
    ]
    if not depths:
        kind = "bottlenecks" if bottleneck else "basic blocks"
        known = ", ".join(map(str, BLOCKS))
        raise InputRefusedError(f"ResNet: wanted depth {known}, got {blocks} {kind}")
    found: Keywords = {
        "channels": channels,
        "depth": depths[0],
        "init_filters": filters,
        "shortcut": "A",
    }
    if any(".downsample." in key for key in shapes):
        found["shortcut"] = "B"
        # The second stage is where every depth has a shortcut.
        found["shortcut_bias"] = "layer2.0.downsample.0.bias" in shapes
    return found


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array of a ResNet, in the order of MONAI's state dict."""
    return _entries(**keywords)


def _entries(
    *,
    channels: int = 1,
    depth: int = 18,
    init_filters: int = 64,
    shortcut: str = "B",
    shortcut_bias: bool = True,
    **_,
) -> list[Entry]:
    found = convolution("conv1", ("stem",), channels, init_filters, 7)
    found += batch_norm("bn1", ("norm",), init_filters)
    before = init_filters
    for stage, count in enumerate(BLOCKS[depth]):
        inside = init_filters * 2**stage
        after = inside * expansion(depth)
        for number in range(count):
            theirs = f"layer{stage + 1}.{number}"
            ours = ("stages", str(stage), str(number))
            found += _block(theirs, ours, before, inside, depth in BOTTLENECKS)
            changes = number == 0 and (stage > 0 or before != after)
            if changes and shortcut == "B":
                found += convolution(
                    f"{theirs}.downsample.0",
                    (*ours, "shortcut", "conv"),
                    before,
                    after,
                    1,
                    bias=shortcut_bias,
                )
                norm = (*ours, "shortcut", "norm")
                found += batch_norm(f"{theirs}.downsample.1", norm, after)
            before = after
    return found


def _block(
    theirs: str, ours: tuple[str, ...], before: int, inside: int, bottleneck: bool
) -> list[Entry]:
    basic = [(before, inside, 3), (inside, inside, 3)]
    narrow = [(before, inside, 1), (inside, inside, 3), (inside, 4 * inside, 1)]
    found = []
    for number, (a, b, kernel) in enumerate(narrow if bottleneck else basic):
        place = str(number)
        conv, norm = f"{theirs}.conv{number + 1}", f"{theirs}.bn{number + 1}"
        found += convolution(conv, (*ours, "convs", place), a, b, kernel)
        found += batch_norm(norm, (*ours, "norms", place), b)
    return found


LAYOUT = Layout(
    name="MONAI ResNet",
    encoder="resnet",
    anchors=("layer1.0.conv1.weight",),
    infer=infer,
    entries=entries,
    ignore=ignore_counter,
    extras=counters_of(entries),
    heads=("fc",),
    checked="MONAI 1.6.1, every block; key sets of 1.3.2, 1.4.0 and 1.5.2 are equal",
)
