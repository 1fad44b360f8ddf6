"""Resize a stored volume: separable, anti-aliased, half-voxel exact."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, UInt8

Codes = UInt8[Array, "a b c"] | Float32[Array, "a b c"]
"""A volume as its recipe stored it: 0 outside, and 1..255 (a byte or not) inside."""


def triangle_weights(source: int, target: int) -> np.ndarray:
    """Gives float32 [target, source]: row i averages the source voxels under voxel i.

    The kernel is a triangle whose half-width is one voxel of the coarser grid; rows
    sum to 1. Equal sizes give the identity matrix.
    """
    ratio = source / target
    # Half-voxel shift: both grids cover the same field, their centres do not coincide.
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    distance = np.abs(centres[:, None] - np.arange(source)) / max(ratio, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _along_axes(
    volume: Float[Array, "c a b d"], shape: tuple[int, int, int]
) -> Float[Array, "c x y z"]:
    # The last axis first: what is contiguous shrinks before the strided axes.
    for axis, letter in ((3, "d"), (2, "b"), (1, "a")):
        size = volume.shape[axis]
        if size != shape[axis - 1]:
            weights = triangle_weights(size, shape[axis - 1])
            result = "cabd".replace(letter, "n")
            volume = jnp.einsum(
                f"cabd,n{letter}->{result}", volume, weights, precision="highest"
            )
    return volume


def resize(
    codes: Codes, shape: tuple[int, int, int]
) -> tuple[Float[Array, "x y z"], Bool[Array, "x y z"]]:
    """Gives (values, inside) of the whole field of view at `shape`.

    values: float32 in 0..1, 0 outside. Averages count inside voxels only, so that the
    brain's edge is not darkened; a voxel is inside where more than half of it is.
    """
    known = (codes > 0).astype(jnp.float32)
    stacked = jnp.stack([jnp.maximum(codes.astype(jnp.float32) - 1, 0), known])
    total, weight = _along_axes(stacked, shape)
    inside = weight > 0.5
    values = total / jnp.where(inside, weight, 1) / 254
    return jnp.where(inside, jnp.clip(values, 0, 1), 0), inside


def to_codes(
    values: Float[Array, "x y z"], inside: Bool[Array, "x y z"]
) -> Float32[Array, "x y z"]:
    """Gives codes that are not rounded: 0 outside, 1..255 for 0..1 inside."""
    return jnp.where(inside, values * 254 + 1, 0)


def quantise(
    values: Float[Array, "x y z"], inside: Bool[Array, "x y z"]
) -> UInt8[Array, "x y z"]:
    """Gives stored codes: 0 outside, 1..255 for 0..1 inside."""
    return jnp.round(to_codes(values, inside)).astype(jnp.uint8)
