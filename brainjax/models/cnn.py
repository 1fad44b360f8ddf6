"""Small 3D convolutional encoders, made so that a CPU can train them.

XLA's 3D convolution on a CPU reaches 3 GFLOP/s at 8 channels but 25-44 at 32 to 64,
and gradients of strided convolutions and of pooling windows are slow. So voxels are
folded into channels, downsampling is a fold and a matrix product, and no convolution
runs at full resolution.
"""

import itertools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models.convolution import Convolution
from brainjax.models.encoded import (
    Encoded,
    check_volumes,
    choice,
    compute_dtype,
    triple,
)


def fold(cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
    """Folds 2x2x2 cells into channels (d = 8c); an odd side is first padded by 0."""
    octets = split_octets(cells, fill=0.0)
    b, i, j, k, _, c = octets.shape
    return octets.reshape(b, i, j, k, 8 * c)


def max_pool(cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k c"]:
    """The largest of each 2x2x2 cells; an odd side keeps its last cell."""
    return split_octets(cells, fill=-jnp.inf).max(axis=-2)


def split_octets(
    cells: Float[Array, "b x y z c"], *, fill: float
) -> Float[Array, "b i j k 8 c"]:
    """Gathers 2x2x2 neighbours on one axis, padding odd sides with `fill`."""
    odd = [(0, side % 2) for side in cells.shape[1:4]]
    if any(after for _, after in odd):
        cells = jnp.pad(cells, [(0, 0), *odd, (0, 0)], constant_values=fill)
    b, x, y, z, c = cells.shape
    pairs = cells.reshape(b, x // 2, 2, y // 2, 2, z // 2, 2, c)
    octets = pairs.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return octets.reshape(b, x // 2, y // 2, z // 2, 8, c)


def stem_patches(volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b i j k 64"]:
    """The 4x4x4 neighbourhoods of a stride of two: the stem is then one product."""
    even = [(1, 1 + side % 2) for side in volumes.shape[1:4]]
    folded = fold(jnp.pad(volumes, [(0, 0), *even, (0, 0)]))
    x, y, z = (side - 1 for side in folded.shape[1:4])
    corners = itertools.product((0, 1), repeat=3)
    shifted = [folded[:, i : i + x, j : j + y, k : k + z] for i, j, k in corners]
    return jnp.concatenate(shifted, axis=-1)


def make_norm(kind: str, channels: int, dtype, rngs: nnx.Rngs):
    """A "group" norm of about eight channels a group, or a "batch" norm."""
    if choice(kind, ("group", "batch"), "norm") == "batch":
        return nnx.BatchNorm(channels, momentum=0.9, dtype=dtype, rngs=rngs)
    groups = max(g for g in range(1, 9) if channels % g == 0)
    return nnx.GroupNorm(channels, groups, epsilon=1e-5, dtype=dtype, rngs=rngs)


def make_conv(before: int, after: int, dtype, rngs: nnx.Rngs) -> Convolution:
    """A 3x3x3 convolution that keeps the size; a norm follows, so it has no bias."""
    start = nnx.initializers.he_normal()
    return Convolution(before, after, kernel_init=start, dtype=dtype, rngs=rngs)


def encoded(cells: Float[Array, "b x y z c"]) -> Encoded:
    """Flattens cells to tokens and takes their mean."""
    tokens = cells.reshape(cells.shape[0], -1, cells.shape[-1])
    return Encoded(tokens.astype(jnp.float32).mean(axis=1), tokens)


class ResidualBlock(nnx.Module):
    """Two convolutions added to their input (pre-activation, He et al. 2016)."""

    def __init__(self, channels: int, *, dtype, rngs: nnx.Rngs):
        self.norm1 = make_norm("group", channels, dtype, rngs)
        self.conv1 = make_conv(channels, channels, dtype, rngs)
        self.norm2 = make_norm("group", channels, dtype, rngs)
        self.conv2 = make_conv(channels, channels, dtype, rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z c"]:
        """Gives the cells after the block, of the same shape."""
        hidden = self.conv1(nnx.relu(self.norm1(cells)))
        return cells + self.conv2(nnx.relu(self.norm2(hidden)))


class Stage(nnx.Module):
    """Halves every side by a fold and a product, then runs residual blocks."""

    def __init__(self, before: int, after: int, *, depth: int, dtype, rngs: nnx.Rngs):
        self.down = nnx.Linear(8 * before, after, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            [ResidualBlock(after, dtype=dtype, rngs=rngs) for _ in range(depth)]
        )

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the stage's cells, half as many along every side."""
        cells = self.down(fold(cells))
        for block in self.blocks:
            cells = block(cells)
        return cells


class ResidualCNN(nnx.Module):
    """A small residual network: a folded stem, then four stages.

    Args:
        shape: voxels of a volume along x, y, z.
        width: channels of the stem and the first stage; they double at each later
            stage, so that `.width` of the encoder is eight times this.
        depth: residual blocks of a stage.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        width: int = 24,
        depth: int = 1,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        compute = compute_dtype(dtype)
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        self.shape = triple(shape, "shape")
        self.width = channels[-1]
        self.stem = nnx.Linear(64, width, dtype=compute, rngs=rngs)
        self.stages = nnx.List(
            [
                Stage(before, after, depth=depth, dtype=compute, rngs=rngs)
                for before, after in itertools.pairwise(channels)
            ]
        )
        self.norm = make_norm("group", self.width, compute, rngs)

    def __call__(self, volumes: Float[Array, "b x y z 1"]) -> Encoded:
        """Encodes volumes; a token covers 32 voxels of each side."""
        check_volumes(volumes, self.shape)
        cells = self.stem(stem_patches(volumes))
        for stage in self.stages:
            cells = stage(cells)
        return encoded(nnx.relu(self.norm(cells)))


class PlainCNN(nnx.Module):
    """Five layers of convolution, norm, ReLU and pooling: the brain-age baseline.

    After the Simple Fully Convolutional Network (Peng et al. 2021), smaller; its
    first layer has a 4x4x4 kernel of stride two, so that it is one matrix product.

    Args:
        shape: voxels of a volume along x, y, z.
        channels: channels of the five layers.
        norm: "batch" or "group".
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        channels: tuple[int, ...] = (16, 32, 64, 64, 64),
        norm: str = "batch",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        compute = compute_dtype(dtype)
        self.shape = triple(shape, "shape")
        self.width = channels[-1]
        self.stem = nnx.Linear(64, channels[0], dtype=compute, rngs=rngs)
        self.convs = nnx.List(
            [make_conv(a, b, compute, rngs) for a, b in itertools.pairwise(channels)]
        )
        self.norms = nnx.List([make_norm(norm, c, compute, rngs) for c in channels])

    def __call__(self, volumes: Float[Array, "b x y z 1"]) -> Encoded:
        """Encodes volumes; a token covers 32 voxels of each side."""
        check_volumes(volumes, self.shape)
        cells = nnx.relu(self.norms[0](self.stem(stem_patches(volumes))))
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            cells = nnx.relu(norm(conv(max_pool(cells))))
        return encoded(cells)
