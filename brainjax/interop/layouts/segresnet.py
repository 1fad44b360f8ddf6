"""MONAI's `SegResEncoder` (in `segresnet_ds`), isotropic, with batch norms: CT-FM's.

Of a whole `SegResNetDS` the encoder is carried over, not the decoder.
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


def infer(shapes: Mapping[str, Shape]) -> Keywords:
    """Gives the constructor keywords that a file tells."""
    filters, channels, *_ = size(shapes, "conv_init.weight", None, None, 3, 3, 3)
    blocks = count_levels(shapes, "layers.{}.blocks.{}.")
    if "layers.0.blocks.0.norm1.running_mean" not in shapes:
        raise InputRefusedError(
            "SegResEncoder: wanted batch norms (layers.0.blocks.0.norm1.running_mean), "
            "got another norm"
        )
    return {"channels": channels, "init_filters": filters, "blocks": blocks}


def entries(keywords: Keywords) -> list[Entry]:
    """Gives every array of the encoder, in the order of MONAI's state dict."""
    return _entries(**keywords)


def _entries(
    *,
    channels: int = 1,
    init_filters: int = 32,
    blocks: tuple[int, ...] = (1, 2, 2, 4, 4),
    **_,
) -> list[Entry]:
    found = convolution("conv_init", ("stem",), channels, init_filters)
    for level, count in enumerate(blocks):
        width = init_filters * 2**level
        for number in range(count):
            theirs = f"layers.{level}.blocks.{number}"
            ours = ("levels", str(level), str(number))
            for part in ("1", "2"):
                norm, conv = f"norm{part}", f"conv{part}"
                found += batch_norm(f"{theirs}.{norm}", (*ours, norm), width)
                found += convolution(f"{theirs}.{conv}", (*ours, conv), width, width)
        if level + 1 < len(blocks):
            down = ("downs", str(level))
            found += convolution(f"layers.{level}.downsample", down, width, 2 * width)
    return found


LAYOUT = Layout(
    name="MONAI SegResEncoder",
    encoder="segresnet",
    anchors=("conv_init.weight",),
    infer=infer,
    entries=entries,
    ignore=ignore_counter,
    extras=counters_of(entries),
    checked="MONAI 1.6.1, every block; key sets of 1.3.2, 1.4.0 and 1.5.2 are equal",
)
