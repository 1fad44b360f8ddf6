"""A residual U-Net over the whole volume in one pass (in the spirit of CEREBRUM).

Bontempi et al. 2020 segment a whole head at once, without patches; so does this, at
half the resolution inside: 2x2x2 voxels are folded into channels at the stem and out
of them at the end, which a CPU can train. A U-Net of residual blocks in between, whose
skips are added.
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.cnn import Stage, fold
from brainjax.models.encoded import at_least, check_volumes, compute_dtype, triple
from brainjax.models.parts import check_blocks
from brainjax.models.products import Linear
from brainjax.models.segmented import (
    Segmented,
    answer,
    crop,
    make_blocks,
    make_heads,
    repeat,
)


class WholeUNet(nnx.Module):
    """A residual U-Net of folded voxels; `WholeUNet(...)(volumes)` gives `Segmented`.

    Parameters do not depend on the shape: built for another, it takes the same ones.

    Args:
        shape: voxels of a volume along x, y, z; any, odd ones too.
        channels: channels of a volume, such as sequences.
        outputs: logits of a voxel.
        widths: channels of each level, the finest first; the first has voxels of twice
            the volume's spacing, and every side halves from one level to the next.
        blocks: residual blocks of each level on the way down.
        decoder_blocks: residual blocks of each level but the last on the way up, the
            finest first.
        deep: coarser levels that give logits too, for deep supervision.
        head: units of the last layer but one, which reads the image too; 0 for none.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.

    Raises:
        InputRefusedError: numbers of levels that differ, or a number below one.
    """

    encoder = None
    """No encoder of `ENCODERS`: it is trained from the start."""

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 112, 96),
        channels: int = 1,
        outputs: int = 1,
        widths: tuple[int, ...] = (32, 64, 128, 160),
        blocks: tuple[int, ...] = (1, 1, 1, 2),
        decoder_blocks: tuple[int, ...] = (1, 1, 1),
        deep: int = 0,
        head: int = 128,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        made = {"dtype": compute_dtype(dtype), "rngs": rngs}
        self.dtype = made["dtype"]
        self.shape = triple(shape, "shape")
        self.channels = at_least(1, channels, "channels")
        self.outputs = outputs
        _check_levels(widths, blocks, decoder_blocks)
        self.width = widths[-1]
        self.stem = Linear(8 * channels, widths[0], **made)
        self.stem_blocks = make_blocks(widths[0], blocks[0], **made)
        steps = list(itertools.pairwise(widths))
        downs = zip(steps, blocks[1:], strict=True)
        self.stages = nnx.List(
            [Stage(*step, depth=depth, **made) for step, depth in downs]
        )
        self.ups = nnx.List([Linear(b, a, **made) for a, b in reversed(steps)])
        climbs = list(zip(widths[:-1], decoder_blocks, strict=True))
        self.up_blocks = nnx.List([make_blocks(*c, **made) for c in reversed(climbs)])
        heads = make_heads(widths[:-1], outputs, deep, head, channels=channels, **made)
        self.norm, self.beside, self.out, self.deep_outs = heads

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Segmented:
        """Gives logits of volumes, z-scored inside the brain or head and 0 outside.

        Raises:
            InputRefusedError: a volume is not of the network's shape.
        """
        climbed = self._climb(self.feature_maps(volumes))
        return answer(self, climbed, volumes)

    def encode(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "b d"]:
        """Gives the mean of the coarsest level's cells, float32."""
        cells = self.feature_maps(volumes)[-1]
        return cells.astype(jnp.float32).mean(axis=(1, 2, 3))

    def feature_maps(self, volumes: Float[Array, "b x y z c"]) -> list[Array]:
        """Gives every level's cells on the way down, the finest first."""
        check_volumes(volumes, self.shape, self.channels)
        cells = self.stem(fold(volumes))
        for block in self.stem_blocks:
            cells = block(cells)
        maps = [cells]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def _climb(self, skips: Sequence[Array]) -> list[Array]:
        """Gives every level's cells but the last's on the way up, the finest first."""
        cells, climbed = skips[-1], []
        levels = zip(skips[-2::-1], self.ups, self.up_blocks, strict=True)
        for skip, up, blocks in levels:
            cells = skip + crop(repeat(up(cells)), skip.shape[1:4])
            for block in blocks:
                cells = block(cells)
            climbed.append(cells)
        return climbed[::-1]


def _check_levels(widths, blocks, decoder_blocks) -> None:
    counts = (len(widths), len(blocks), len(decoder_blocks) + 1)
    if len(set(counts)) != 1 or counts[0] < 2:
        raise InputRefusedError(
            "widths, blocks, decoder_blocks: wanted n, n and n - 1 levels (n of 2 or "
            f"more), got {len(widths)}, {len(blocks)} and {len(decoder_blocks)}"
        )
    for values in (widths, blocks, decoder_blocks):
        check_blocks(values)
