"""The encoder of SegResNet (Myronenko 2018), as MONAI's `SegResEncoder` has it.

Pre-activation residual blocks at one width a level; a strided convolution then halves
every side and doubles the channels. CT-FM is this network of 77.8 M parameters.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models.cnn import encoded
from brainjax.models.convolution import Convolution
from brainjax.models.encoded import (
    Encoded,
    at_least,
    check_volumes,
    choice,
    compute_dtype,
    triple,
)
from brainjax.models.parts import REMATS, batch_norm, check_blocks, run_stage


class SegResBlock(nnx.Module):
    """Two convolutions, each behind a norm and a ReLU, added to their input."""

    def __init__(self, channels: int, *, dtype, rngs: nnx.Rngs):
        self.norm1 = batch_norm(channels, dtype, rngs)
        self.conv1 = Convolution(channels, channels, dtype=dtype, rngs=rngs)
        self.norm2 = batch_norm(channels, dtype, rngs)
        self.conv2 = Convolution(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z c"]:
        """Gives the cells after the block, of the same shape."""
        hidden = self.conv1(nnx.relu(self.norm1(cells)))
        return cells + self.conv2(nnx.relu(self.norm2(hidden)))


class SegResEncoder(nnx.Module):
    """A SegResNet encoder with batch norms, isotropic; CT-FM's by default.

    Args:
        shape: voxels of a volume along x, y, z.
        channels: channels of a volume.
        init_filters: channels of the first level; they double at each later one.
        blocks: residual blocks of each level; between levels every side halves.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
        remat: "none", or "block" to compute blocks again in the backward pass.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        channels: int = 1,
        init_filters: int = 32,
        blocks: tuple[int, ...] = (1, 2, 2, 4, 4),
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        compute = compute_dtype(dtype)
        blocks = check_blocks(blocks)
        self.shape = triple(shape, "shape")
        self.channels = at_least(1, channels, "channels")
        at_least(1, init_filters, "init_filters")
        self.remat = choice(remat, REMATS, "remat")
        widths = [init_filters * 2**level for level in range(len(blocks))]
        self.width = widths[-1]
        self.stem = Convolution(channels, widths[0], dtype=compute, rngs=rngs)
        self.levels = nnx.List(
            [
                nnx.List(
                    [SegResBlock(width, dtype=compute, rngs=rngs) for _ in range(count)]
                )
                for width, count in zip(widths, blocks, strict=True)
            ]
        )
        self.downs = nnx.List(
            [
                Convolution(width, 2 * width, stride=2, dtype=compute, rngs=rngs)
                for width in widths[:-1]
            ]
        )

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Encoded:
        """Encodes volumes; a token is a cell of the last level, `pooled` their mean."""
        return encoded(self.feature_maps(volumes)[-1])

    def feature_maps(self, volumes: Float[Array, "b x y z c"]) -> list[Array]:
        """Gives every level's cells, `[b, i, j, k, channels]`, the finest first."""
        return [level[-1] for level in self.block_maps(volumes)]

    def block_maps(self, volumes: Float[Array, "b x y z c"]) -> list[list[Array]]:
        """Gives every block's cells, by level."""
        check_volumes(volumes, self.shape, self.channels)
        cells = self.stem(jnp.asarray(volumes))
        maps = []
        for number, level in enumerate(self.levels):
            if number:
                cells = self.downs[number - 1](cells)
            maps.append(run_stage(level, cells, self.remat))
            cells = maps[-1][-1]
        return maps
