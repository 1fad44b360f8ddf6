"""UNETR (Hatamizadeh et al. 2022) of ours: any ViT, and ups by interpolation.

Beside `unetr.UNETR`, which is MONAI's and reads converted checkpoints: the patch is any
power of two, nothing is transposed-convolved, and no convolution runs at full
resolution; the image enters the decoder folded, 2x2x2 voxels in a cell.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.cnn import ResidualBlock, fold
from brainjax.models.encoded import at_least
from brainjax.models.products import Linear
from brainjax.models.segmented import (
    Segmented,
    answer,
    encoder_keywords,
    interpolate,
    make_blocks,
    make_heads,
)
from brainjax.models.vit import ViT


class ResizeUNETR(nnx.Module):
    """A ViT and a decoder; `ResizeUNETR(...)(volumes)` gives `Segmented`.

    A patch of 2 ** n voxels gives n - 1 levels: the finest, of cells of 2x2x2 voxels,
    is joined by the image, each other one by the stream of a block, the earlier the
    finer, evenly spread over the depth.

    Args:
        encoder: keywords of `ViT`; the patch is 4, 8, 16 or another power of two.
        shape: voxels of a volume along x, y, z.
        channels: channels of a volume, such as sequences.
        outputs: logits of a voxel.
        feature_size: channels at the finest level; they double at each coarser one.
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
        feature_size: int = 32,
        deep: int = 0,
        head: int = 128,
        rngs: nnx.Rngs,
    ):
        keywords = encoder_keywords(encoder, "vit", shape=shape, channels=channels)
        self.encoder = ViT(rngs=rngs, **keywords)
        self.shape, self.channels = self.encoder.shape, self.encoder.channels
        self.width = self.encoder.width
        self.outputs = outputs
        levels = _count_levels(self.encoder)
        self.taps = _taps(self.encoder.depth, levels - 1)
        made = {"dtype": self.encoder.dtype, "rngs": rngs}
        at_least(1, feature_size, "feature_size")
        widths = [feature_size * 2**level for level in range(levels)]
        self.stem = Linear(8 * self.channels, feature_size, **made)
        self.stem_block = ResidualBlock(feature_size, **made)
        climbs = zip(widths[1:], range(levels - 1, 0, -1), strict=True)
        self.climbs = nnx.List([Climb(self.width, *climb, **made) for climb in climbs])
        steps = itertools.pairwise([*widths, self.width])
        self.ups = nnx.List([Linear(b, a, **made) for a, b in steps])
        self.up_blocks = nnx.List([ResidualBlock(width, **made) for width in widths])
        heads = make_heads(widths, outputs, deep, head, channels=channels, **made)
        self.norm, self.beside, self.out, self.deep_outs = heads

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Segmented:
        """Gives the logits of every voxel.

        Raises:
            InputRefusedError: a volume is not of the encoder's shape.
        """
        streams = self.encoder.hidden(volumes)
        image = self.stem(fold(volumes.astype(self.encoder.dtype)))
        skips = [self.stem_block(image)]
        for climb, tap in zip(self.climbs, self.taps, strict=True):
            skips.append(climb(self._to_grid(streams[tap])))
        cells, levels = self._to_grid(self.encoder.norm(streams[-1])), []
        joins = list(zip(skips, self.ups, self.up_blocks, strict=True))
        for skip, up, block in reversed(joins):
            cells = block(skip + interpolate(up(cells)))
            levels.append(cells)
        return answer(self, levels[::-1], volumes)

    def encode(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "b d"]:
        """The encoder's pooled features alone."""
        return self.encoder(volumes).pooled

    def _to_grid(self, stream: Float[Array, "b n d"]) -> Float[Array, "b i j k d"]:
        patches = stream[:, self.encoder.prefix :]
        return patches.reshape(-1, *self.encoder.grid, self.width)


class Climb(nnx.Module):
    """From the grid of patches to a level: doublings, a residual block after each."""

    def __init__(
        self, before: int, after: int, doublings: int, *, dtype, rngs: nnx.Rngs
    ):
        self.narrow = Linear(before, after, dtype=dtype, rngs=rngs)
        self.blocks = make_blocks(after, doublings, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the level's cells."""
        cells = self.narrow(cells)
        for block in self.blocks:
            cells = block(interpolate(cells))
        return cells


def _count_levels(encoder: ViT) -> int:
    side = encoder.patch[0]
    if set(encoder.patch) != {side} or side < 4 or side & (side - 1):
        raise InputRefusedError(
            "UNETR: wanted an encoder whose patch is a power of two from 4, "
            f"got {encoder.patch}"
        )
    levels = side.bit_length() - 2
    if encoder.depth < levels:
        raise InputRefusedError(
            f"UNETR: wanted an encoder of depth {levels} or more, got {encoder.depth}"
        )
    return levels


def _taps(depth: int, count: int) -> tuple[int, ...]:
    """Blocks, counted from 0, whose streams the skips are made of."""
    return tuple(depth * number // (count + 1) for number in range(1, count + 1))
