"""Intensities: robust clip to 0..1 inside a mask, and one byte a voxel."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

OUTSIDE = 0
"""Code of a voxel outside the mask; 1..255 are inside."""


class Limits(NamedTuple):
    """What becomes 0 and what becomes 1, in the scan's own unit."""

    low: float
    high: float


def robust_limits(
    voxels: Float32[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    percentiles: tuple[float, float],
) -> Limits:
    """Gives the clip limits: percentiles of the voxels inside."""
    low, high = np.percentile(voxels[inside], percentiles)
    return Limits(float(low), float(high))


def quantise(
    voxels: Float32[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    limits: Limits,
) -> UInt8[np.ndarray, "x y z"]:
    """Gives codes: 0 outside, 1 + round(254 v) inside, v = 0..1 between the limits."""
    scaled = (voxels - limits.low) / (limits.high - limits.low)
    codes = 1 + np.rint(254 * np.clip(scaled, 0, 1))
    return np.where(inside, codes, OUTSIDE).astype(np.uint8)
