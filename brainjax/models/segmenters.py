"""Segmenters by name: networks from a volume to the logits of every voxel.

To add one: one file, and one row in `SEGMENTERS`. A segmenter is made with `shape`,
`channels`, `outputs`, `rngs` and keywords of its own, takes `[b, x, y, z, channels]`
and gives `Segmented`; it has `.encode`, and `.encoder`, None or a row of `ENCODERS`.
"""

from flax import nnx

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
    common = {"shape": shape, "channels": channels, "outputs": outputs}
    return kind(rngs=rngs, **common, **keywords)
