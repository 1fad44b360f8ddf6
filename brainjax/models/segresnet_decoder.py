"""SegResNet (Myronenko 2018) with deep supervision: a decoder on `SegResEncoder`.

CT-FM's encoder fits in. Cells are halved in channels, doubled trilinearly and added to
the encoder's, as in the paper; but no convolution of ours runs at full resolution: the
encoder's finest cells are folded into channels, and logits unfolded in the end.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.cnn import fold
from brainjax.models.products import Linear
from brainjax.models.segmented import (
    Segmented,
    answer,
    crop,
    encoder_keywords,
    interpolate,
    make_blocks,
    make_heads,
)
from brainjax.models.segresnet import SegResEncoder


class SegResNet(nnx.Module):
    """A `SegResEncoder` and a decoder; `SegResNet(...)(volumes)` gives `Segmented`.

    Parameters do not depend on the shape: built for another, it takes the same ones.

    Args:
        encoder: keywords of `SegResEncoder`, of two levels or more.
        shape: voxels of a volume along x, y, z.
        channels: channels of a volume, such as sequences.
        outputs: logits of a voxel.
        blocks: residual blocks of each level of the decoder.
        deep: coarser levels that give logits too, for deep supervision.
        head: units of the last layer but one, which reads the image too; 0 for none.

    Raises:
        InputRefusedError: a setting of the encoder's, or one that does not fit it.
    """

    def __init__(
        self,
        *,
        encoder: Mapping[str, Any] | None = None,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        channels: int = 1,
        outputs: int = 1,
        blocks: int = 1,
        deep: int = 0,
        head: int = 128,
        rngs: nnx.Rngs,
    ):
        keywords = encoder_keywords(
            encoder, "segresnet", shape=shape, channels=channels
        )
        self.encoder = SegResEncoder(rngs=rngs, **keywords)
        self.shape, self.channels = self.encoder.shape, self.encoder.channels
        self.width = self.encoder.width
        self.outputs = outputs
        levels = len(self.encoder.levels)
        if levels < 2:
            raise InputRefusedError("SegResNet: wanted 2 levels or more, got 1")
        made = {"dtype": self.encoder.stem.dtype, "rngs": rngs}
        finest, *widths = [self.width >> level for level in range(levels)][::-1]
        steps = list(itertools.pairwise(widths))[::-1]
        self.ups = nnx.List([Linear(b, a, **made) for a, b in steps])
        self.fine = Linear(8 * finest, widths[0], **made)
        self.up_blocks = nnx.List([make_blocks(a, blocks, **made) for a, _ in steps])
        read = widths[:-1] or widths
        heads = make_heads(read, outputs, deep, head, channels=self.channels, **made)
        self.norm, self.beside, self.out, self.deep_outs = heads

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Segmented:
        """Gives the logits of every voxel.

        Raises:
            InputRefusedError: a volume is not of the encoder's shape.
        """
        finest, *skips = self.encoder.feature_maps(volumes)
        skips[0] = skips[0] + self.fine(fold(finest))
        levels = [skips.pop()]
        for up, blocks in zip(self.ups, self.up_blocks, strict=True):
            skip = skips.pop()
            cells = skip + crop(interpolate(up(levels[-1])), skip.shape[1:4])
            for block in blocks:
                cells = block(cells)
            levels.append(cells)
        return answer(self, levels[::-1], volumes)

    def encode(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "b d"]:
        """The encoder's pooled features alone."""
        return self.encoder(volumes).pooled
