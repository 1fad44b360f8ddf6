"""UNETR (Hatamizadeh et al. 2022): a ViT, and convolutions up from its hidden stream.

Its arithmetic is that of MONAI's `UNETR` with instance norms (without parameters) and
residual blocks, so that its weights, such as BrainIAC's segmentation, can be carried
over. Transposed convolutions of kernel and stride two are one matrix product each.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.convolution import Convolution
from brainjax.models.encoded import at_least, choice
from brainjax.models.vit import ViT

TAPS = (3, 6, 9)
"""Blocks, counted from 0, whose streams the skips are made of."""

PATCH = (16, 16, 16)
"""Four doublings lead from patches back to voxels."""

EPSILON = 1e-5
SLOPE = 0.01


class UNETR(nnx.Module):
    """A ViT and a decoder to its input's size; `UNETR(...)(volumes)` gives logits.

    Args:
        encoder: keywords of `ViT`; the patch is 16, the depth 10 or more.
        feature_size: channels at the finest level; they double at each coarser one.
        outputs: logits of a voxel.

    Raises:
        InputRefusedError: a setting of the encoder's, or one that UNETR cannot have.
    """

    def __init__(
        self,
        *,
        encoder: Mapping[str, Any] | None = None,
        feature_size: int = 16,
        outputs: int = 1,
        rngs: nnx.Rngs,
    ):
        keywords = dict(encoder or {})
        choice(keywords.pop("name", "vit"), ("vit",), "encoder of UNETR")
        self.encoder = ViT(rngs=rngs, **keywords)
        self.shape, self.width = self.encoder.shape, self.encoder.width
        self.channels = self.encoder.channels
        self.feature_size = at_least(1, feature_size, "feature_size")
        self.outputs = at_least(1, outputs, "outputs")
        _refuse_encoder(self.encoder)
        width, f = self.width, feature_size
        made = {"dtype": self.encoder.dtype, "rngs": rngs}
        self.skip1 = Residual(self.channels, f, **made)
        self.skip2 = Climb(width, 2 * f, steps=2, **made)
        self.skip3 = Climb(width, 4 * f, steps=1, **made)
        self.skip4 = Climb(width, 8 * f, steps=0, **made)
        self.join4 = Join(width, 8 * f, **made)
        self.join3 = Join(8 * f, 4 * f, **made)
        self.join2 = Join(4 * f, 2 * f, **made)
        self.join1 = Join(2 * f, f, **made)
        self.out = Convolution(f, outputs, kernel=1, bias=True, **made)

    def __call__(
        self, volumes: Float[Array, "b x y z c"]
    ) -> Float[Array, "b x y z outputs"]:
        """Gives the logits of every voxel, float32.

        Raises:
            InputRefusedError: a volume is not of the encoder's shape.
        """
        cells = self.levels(volumes)[-1]
        return self.out(cells).astype(jnp.float32)

    def levels(
        self, volumes: Float[Array, "b x y z c"]
    ) -> tuple[Float[Array, "b i j k d"], ...]:
        """Gives the four skips, finest first, then the four joins, coarsest first."""
        streams = self.encoder.hidden(volumes)
        climbs = (self.skip2, self.skip3, self.skip4)
        skips = [self.skip1(volumes.astype(self.encoder.dtype))]
        for climb, tap in zip(climbs, TAPS, strict=True):
            skips.append(climb(self._to_grid(streams[tap])))
        joined = [self._to_grid(self.encoder.norm(streams[-1]))]
        joins = (self.join4, self.join3, self.join2, self.join1)
        for join, skip in zip(joins, reversed(skips), strict=True):
            joined.append(join(joined[-1], skip))
        return (*skips, *joined[1:])

    def encode(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "b d"]:
        """The encoder's pooled features alone."""
        return self.encoder(volumes).pooled

    def _to_grid(self, stream: Float[Array, "b n d"]) -> Float[Array, "b i j k d"]:
        patches = stream[:, self.encoder.prefix :]
        return patches.reshape(-1, *self.encoder.grid, self.width)


class Residual(nnx.Module):
    """Two 3x3x3 convolutions added to their input, with instance norms."""

    def __init__(self, before: int, after: int, *, dtype, rngs: nnx.Rngs):
        self.conv1 = Convolution(before, after, dtype=dtype, rngs=rngs)
        self.conv2 = Convolution(after, after, dtype=dtype, rngs=rngs)
        self.changes = before != after
        if self.changes:
            self.conv3 = Convolution(before, after, kernel=1, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z d"]:
        """Gives cells of the same size."""
        hidden = leaky_relu(instance_norm(self.conv1(cells)))
        hidden = instance_norm(self.conv2(hidden))
        if self.changes:
            cells = instance_norm(self.conv3(cells))
        return leaky_relu(hidden + cells)


class Double(nnx.Module):
    """A transposed convolution of kernel two and stride two: every side doubles."""

    def __init__(self, before: int, after: int, *, dtype, rngs: nnx.Rngs):
        start = nnx.initializers.lecun_normal()
        self.dtype = dtype
        self.kernel = nnx.Param(start(rngs.params(), (2, 2, 2, before, after)))

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the eight cells that each cell becomes, in their places."""
        kernel = self.kernel[...].astype(self.dtype)
        found = jnp.einsum("bxyzc,pqrcd->bxpyqzrd", cells, kernel)
        b, x, _, y, _, z, _, d = found.shape
        return found.reshape(b, 2 * x, 2 * y, 2 * z, d)


class Step(nnx.Module):
    """Doubles every side, then a residual block."""

    def __init__(self, channels: int, *, dtype, rngs: nnx.Rngs):
        self.double = Double(channels, channels, dtype=dtype, rngs=rngs)
        self.block = Residual(channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k c"]:
        """Gives the cells, twice as many along every side."""
        return self.block(self.double(cells))


class Climb(nnx.Module):
    """From the grid of patches to a skip: one doubling, then more steps."""

    def __init__(self, before: int, after: int, *, steps: int, dtype, rngs: nnx.Rngs):
        self.double = Double(before, after, dtype=dtype, rngs=rngs)
        self.steps = nnx.List(
            [Step(after, dtype=dtype, rngs=rngs) for _ in range(steps)]
        )

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the skip's cells."""
        cells = self.double(cells)
        for step in self.steps:
            cells = step(cells)
        return cells


class Join(nnx.Module):
    """Doubles every side, puts the skip's channels behind, then a residual block."""

    def __init__(self, before: int, after: int, *, dtype, rngs: nnx.Rngs):
        self.double = Double(before, after, dtype=dtype, rngs=rngs)
        self.block = Residual(2 * after, after, dtype=dtype, rngs=rngs)

    def __call__(
        self, cells: Float[Array, "b x y z c"], skip: Float[Array, "b i j k d"]
    ) -> Float[Array, "b i j k d"]:
        """Gives cells of the skip's shape."""
        both = jnp.concatenate([self.double(cells), skip], axis=-1)
        return self.block(both)


def instance_norm(cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z c"]:
    """Mean 0 and variance 1 of every channel of every sample, in float32."""
    wide = cells.astype(jnp.float32)
    centred = wide - wide.mean(axis=(1, 2, 3), keepdims=True)
    variance = jnp.square(centred).mean(axis=(1, 2, 3), keepdims=True)
    return (centred * jax.lax.rsqrt(variance + EPSILON)).astype(cells.dtype)


def leaky_relu(cells: Float[Array, "b x y z c"]) -> Float[Array, "b x y z c"]:
    """The cells, those below 0 times a hundredth."""
    return nnx.leaky_relu(cells, negative_slope=SLOPE)


def _refuse_encoder(encoder: ViT) -> None:
    if encoder.patch != PATCH:
        raise InputRefusedError(
            f"UNETR: wanted an encoder of patch {PATCH}, got {encoder.patch}"
        )
    if encoder.depth <= TAPS[-1]:
        raise InputRefusedError(
            f"UNETR: wanted an encoder of depth {TAPS[-1] + 1} or more, "
            f"got {encoder.depth}"
        )
