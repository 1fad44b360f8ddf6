"""MONAI's 3D DenseNet; its classification layer is a head."""

from collections.abc import Mapping

from brainjax.interop.layout import Entry, Keywords, Layout, Shape
from brainjax.interop.layouts.parts import (
    batch_norm,
    convolution,
    count_levels,
    counters_of,
    ignore_counter,
    size,
)
from brainjax.models.densenet import BOTTLENECK

LAYER = "features.denseblock{}.denselayer{}."


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    stem = size(shapes, "features.conv0.weight", None, None, 7, 7, 7)
    blocks = count_levels(shapes, LAYER, firsts=(1, 1))
    layer = "features.denseblock1.denselayer1.layers"
    growth, *_ = size(shapes, f"{layer}.conv2.weight", None, None, 3, 3, 3)
    inside = BOTTLENECK * growth
    size(shapes, f"{layer}.conv1.weight", inside, stem[0], 1, 1, 1)
    return {
        "channels": stem[1],
        "init_filters": stem[0],
        "growth": growth,
        "blocks": blocks,
    }


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array of a DenseNet, in the order of MONAI's state dict."""
    return _entries(**keywords)


def _entries(
    *,
    channels: int = 1,
    init_filters: int = 64,
    growth: int = 32,
    blocks: tuple[int, ...] = (6, 12, 24, 16),
    **_,
) -> list[Entry]:
    found = convolution("features.conv0", ("stem",), channels, init_filters, 7)
    found += batch_norm("features.norm0", ("norm0",), init_filters)
    width = init_filters
    for block, count in enumerate(blocks):
        for layer in range(count):
            place = f"features.denseblock{block + 1}.denselayer{layer + 1}.layers"
            ours = ("blocks", str(block), str(layer))
            found += _layer(place, ours, width, growth)
            width += growth
        if block + 1 < len(blocks):
            place, ours = f"features.transition{block + 1}", ("transitions", str(block))
            found += batch_norm(f"{place}.norm", (*ours, "norm"), width)
            found += convolution(f"{place}.conv", (*ours, "conv"), width, width // 2, 1)
            width //= 2
    # "norm5" is its name whatever the number of blocks.
    return found + batch_norm("features.norm5", ("norm",), width)


def _layer(theirs: str, ours: tuple[str, ...], before: int, growth: int) -> list[Entry]:
    inside = BOTTLENECK * growth
    found = batch_norm(f"{theirs}.norm1", (*ours, "norm1"), before)
    found += convolution(f"{theirs}.conv1", (*ours, "conv1"), before, inside, 1)
    found += batch_norm(f"{theirs}.norm2", (*ours, "norm2"), inside)
    return found + convolution(f"{theirs}.conv2", (*ours, "conv2"), inside, growth)


LAYOUT = Layout(
    name="MONAI DenseNet",
    encoder="densenet",
    anchors=("features.conv0.weight",),
    infer=infer,
    entries=entries,
    ignore=ignore_counter,
    extras=counters_of(entries),
    heads=("class_layers.out",),
    checked="MONAI 1.6.1 DenseNet121, every dense block; key sets of 1.3.2, 1.4.0 and "
    "1.5.2 are equal",
)
