"""The air round a head: how noisy it is, and what of the head is seen in it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

COARSE_MM = 3.0
"""Spacing at which air and depth are looked at: every so manieth voxel, unsmoothed."""

AIR_MM = 10.0
"""Air begins so far from the head: what is nearer may be skin that was missed."""

ENOUGH = 200
"""Voxels that a mean of air wants at least."""

EMPTY_SHARE = 0.9
"""Air of which more than this is one value was emptied, and holds no noise."""

KEPT_SHARE = 0.95
"""Share of the air, its darkest, that the noise is taken from: ghosts are bright."""

RAYLEIGH_SD = 0.5588
"""Deviation of a Rayleigh distribution of sigma 1 below its 95th percentile."""

OUTLIER_SIGMAS = 4.0


class Air(NamedTuple):
    """Air beside and above the brain: its noise, and how bright it is in parts.

    sd is the sigma of the Gaussian noise of the real and imaginary part. `ghost` is
    the mean in line with the head along one axis less the mean of the corners, of the
    axis where it is highest; None where there is no room beside the head.
    """

    sd: float
    outliers: float
    ghost: float | None


def find_air(
    voxels: Float32[np.ndarray, "x y z"],
    spacing: tuple,
    brain: Bool[np.ndarray, "x y z"],
    head: Bool[np.ndarray, "x y z"],
) -> Air | None:
    """Gives the noise of the air above the brain's lower end; None where there is none.

    Sigma is the spread of the darker 95 % over that of a Rayleigh distribution
    (Gudbjartsson and Patz 1995; the SNR with it is Dietrich's of 2007): a spread,
    unlike a mean, is nearly right for the sum of several coils too. Outliers are the
    share of the air more than 4 sigma above its median, an artefact index like
    Mortamet's of 2009. The ghost is Giannelli's ghost to signal ratio of 2010,
    looked for along all axes.
    """
    steps = coarse_steps(spacing)
    near = head[steps]
    levels = np.flatnonzero(brain[steps].any(axis=(0, 1)))
    if not levels.size or near.all():
        return None
    above = slice(int(levels[0]), None)
    far = distance(~near, spacing)[..., above] > AIR_MM
    coarse, near = voxels[steps][..., above], near[..., above]
    values = coarse[far]
    if values.size < ENOUGH or _commonest_share(values) > EMPTY_SHARE:
        return None
    kept = np.sort(values)[: int(KEPT_SHARE * values.size)]
    sd = float(kept.std(dtype=np.float64)) / RAYLEIGH_SD
    if sd <= 0:
        return None
    outliers = (values > np.median(values) + OUTLIER_SIGMAS * sd).mean()
    return Air(sd, float(outliers), _ghost(coarse, near, far))


def coarse_steps(spacing: tuple) -> tuple[slice, ...]:
    """Slices that take every so manieth voxel, `COARSE_MM` apart or a little more."""
    return tuple(slice(None, None, int(np.ceil(COARSE_MM / mm))) for mm in spacing)


def distance(
    mask: Bool[np.ndarray, "x y z"], spacing: tuple
) -> Float[np.ndarray, "x y z"]:
    """Depth in mm inside a mask of every so manieth voxel."""
    steps = [mm * np.ceil(COARSE_MM / mm) for mm in spacing]
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=steps))


def _ghost(
    voxels: Float32[np.ndarray, "x y z"],
    head: Bool[np.ndarray, "x y z"],
    air: Bool[np.ndarray, "x y z"],
) -> float | None:
    """How much brighter air in line with the head is than air in line with nothing."""
    shadows = [head.any(axis=axis, keepdims=True) for axis in range(3)]
    lines = [np.broadcast_to(shadow, air.shape) for shadow in shadows]
    count = sum(line.astype(np.uint8) for line in lines)
    parts = [voxels[air & line & (count == 1)] for line in lines]
    corner = voxels[air & (count == 0)]
    if corner.size < ENOUGH:
        return None
    means = [float(part.mean()) for part in parts if part.size >= ENOUGH]
    return max(means) - float(corner.mean()) if means else None


def _commonest_share(values: Float32[np.ndarray, "n"]) -> float:
    return float(np.unique(values, return_counts=True)[1].max() / values.size)
