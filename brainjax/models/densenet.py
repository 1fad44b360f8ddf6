"""3D densely connected networks (Huang et al. 2017), as MONAI builds them."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
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
from brainjax.models.parts import (
    REMATS,
    batch_norm,
    check_blocks,
    halving_mean,
    overlapping_max,
    run_stage,
)

BOTTLENECK = 4
"""Channels inside a dense layer, over the channels that it adds."""


class DenseLayer(nnx.Module):
    """Adds `growth` channels to its input's."""

    def __init__(self, before: int, growth: int, *, dtype, rngs: nnx.Rngs):
        inside = BOTTLENECK * growth
        self.norm1 = batch_norm(before, dtype, rngs)
        self.conv1 = Convolution(before, inside, kernel=1, dtype=dtype, rngs=rngs)
        self.norm2 = batch_norm(inside, dtype, rngs)
        self.conv2 = Convolution(inside, growth, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z d"]:
        """Gives the cells with the new channels behind the old ones."""
        hidden = self.conv1(nnx.relu(self.norm1(cells)))
        added = self.conv2(nnx.relu(self.norm2(hidden)))
        return jnp.concatenate([cells, added], axis=-1)


class Transition(nnx.Module):
    """Halves every side and the channels."""

    def __init__(self, before: int, *, dtype, rngs: nnx.Rngs):
        self.norm = batch_norm(before, dtype, rngs)
        self.conv = Convolution(before, before // 2, kernel=1, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the cells, half as many along every side."""
        # The mean of 1x1x1 products is the product of the mean, at an eighth the cost.
        return self.conv(halving_mean(nnx.relu(self.norm(cells))))


class DenseNet(nnx.Module):
    """A 3D DenseNet without its classification layer; DenseNet-121 by default.

    Args:
        shape: voxels of a volume along x, y, z.
        channels: channels of a volume.
        init_filters: channels of the stem.
        growth: channels that a layer adds.
        blocks: layers of each dense block; between blocks every side halves.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
        remat: "none", or "block" to compute dense layers again in the backward pass.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        channels: int = 1,
        init_filters: int = 64,
        growth: int = 32,
        blocks: tuple[int, ...] = (6, 12, 24, 16),
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        compute = compute_dtype(dtype)
        blocks = check_blocks(blocks)
        self.shape = triple(shape, "shape")
        # The stem and its pooling round up, the later halvings down.
        least = 2 ** (len(blocks) + 1) - 3
        if min(self.shape) < least:
            raise InputRefusedError(
                f"shape: {len(blocks)} dense blocks want sides of {least} voxels or "
                f"more, got {self.shape}"
            )
        self.channels = at_least(1, channels, "channels")
        at_least(1, init_filters, "init_filters")
        self.remat = choice(remat, REMATS, "remat")
        self.stem = Convolution(
            channels, init_filters, kernel=7, stride=2, dtype=compute, rngs=rngs
        )
        self.norm0 = batch_norm(init_filters, compute, rngs)
        width, dense, transitions = init_filters, [], []
        for number, count in enumerate(blocks):
            if number:
                transitions.append(Transition(width, dtype=compute, rngs=rngs))
                width //= 2
            layers = [
                DenseLayer(width + step * growth, growth, dtype=compute, rngs=rngs)
                for step in range(count)
            ]
            width += count * growth
            dense.append(nnx.List(layers))
        self.blocks = nnx.List(dense)
        self.transitions = nnx.List(transitions)
        self.norm = batch_norm(width, compute, rngs)
        self.width = width

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Encoded:
        """Encodes volumes; a token is a cell after the last norm and ReLU."""
        return encoded(self.feature_maps(volumes)[-1])

    def feature_maps(self, volumes: Float[Array, "b x y z c"]) -> list[Array]:
        """Gives the stem's and every block's cells, the last after norm and ReLU."""
        return [block[-1] for block in self.block_maps(volumes)]

    def block_maps(self, volumes: Float[Array, "b x y z c"]) -> list[list[Array]]:
        """Gives every layer's cells, by block; the stem (before pooling) is first.

        The last block also ends with its cells after the last norm and ReLU.
        """
        check_volumes(volumes, self.shape, self.channels)
        cells = nnx.relu(self.norm0(self.stem(volumes)))
        maps = [[cells]]
        cells = overlapping_max(cells)
        for number, layers in enumerate(self.blocks):
            if number:
                cells = self.transitions[number - 1](cells)
            maps.append(run_stage(layers, cells, self.remat))
            cells = maps[-1][-1]
        maps[-1].append(nnx.relu(self.norm(cells)))
        return maps
