"""Segmenters by name: networks from a volume to the logits of every voxel.

To add one: one file, and one row in `SEGMENTERS`. A segmenter is made with `shape`,
`channels`, `outputs`, `rngs` and keywords of its own, takes `[b, x, y, z, channels]`
and gives `Segmented`; it has `.encode`, and `.encoder`, None or a row of `ENCODERS`.
"""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import choice
from brainjax.models.segmented import Segmented
from brainjax.models.segresnet_decoder import SegResNet
from brainjax.models.unet import WholeUNet
from brainjax.models.unetr_resize import ResizeUNETR

__all__ = ["SEGMENTERS", "Segmented", "make_segmenter"]

SEGMENTERS = {
    "unet": WholeUNet,
    "unetr": ResizeUNETR,
    "segresnet": SegResNet,
}
"""Segmenters by the name a config gives."""


def settings_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Gives what the segmenter called `name` is made with, by name.

    Raises:
        InputRefusedError: there is no such segmenter.
    """
    kind = SEGMENTERS[choice(name, SEGMENTERS, "segmenter")]
    # A module's own call takes anything: flax's, which makes the object in steps.
    return inspect.signature(kind.__init__).parameters


def make_segmenter(
    name: str = "unet",
    *,
    shape: int | tuple[int, int, int],
    channels: int = 1,
    outputs: int = 1,
    rngs: nnx.Rngs,
    **keywords,
):
    """Builds the segmenter called `name`; keywords are its constructor's.

    Raises:
        InputRefusedError: there is no such segmenter, or a keyword's value is refused.
    """
    kind = SEGMENTERS[choice(name, SEGMENTERS, "segmenter")]
    _check_keywords(name, keywords)
    common = {"shape": shape, "channels": channels, "outputs": outputs}
    return kind(rngs=rngs, **common, **keywords)


def _check_keywords(name: str, keywords: Mapping[str, Any]) -> None:
    known = settings_of(name)
    for key, value in keywords.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.0)[0]
            raise InputRefusedError(
                f"segmenter {name}: there is no setting {key}; did you mean {near}?"
            )
        several = isinstance(known[key].default, tuple)
        if several and not isinstance(value, list | tuple):
            raise InputRefusedError(
                f"segmenter {name}: {key}: wanted several numbers, got {value!r}"
            )
