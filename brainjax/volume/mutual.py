"""Mutual information of a still volume and a scan, and how to climb it.

The still side is points in mm, each with soft shares of a few classes; the scan's
values fall into bins by linear (Parzen) shares (Mattes et al. 2003; Thevenaz and Unser
2000). Slopes are exact for these shares. The curvature is that of Fisher scoring: the
expected square of a point's pull, which is never negative.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32
from scipy import ndimage

BINS = 32
"""Of the scan's values; what lies beyond the limits falls into the outermost."""

UNIT_MM = 50.0
"""Entries of a turn or stretch move points this far off by as much as a shift does."""

SMOOTH_BINS = 1.0
MIN_OVERLAP = 0.3
"""Share of the points that must lie within the scan."""


class Still(NamedTuple):
    """Points of the side that stays, and their shares of classes.

    points: mm. classes, shares: each point is of `classes[:, n]`, to the extent of
    `shares[:, n]`, which add up to 1. centre: mm, what is turned about.
    """

    points: Float64[np.ndarray, "3 n"]
    classes: Int32[np.ndarray, "k n"]
    shares: Float32[np.ndarray, "k n"]
    centre: Float64[np.ndarray, "3"]


class Moving(NamedTuple):
    """A scan whose values are bins, 0 to BINS - 1, and its mm to voxel indices."""

    voxels: Float32[np.ndarray, "x y z"]
    to_index: Float64[np.ndarray, "4 4"]


class Score(NamedTuple):
    """Mutual information in nats by the share of points in the scan, and its shape.

    slope, curvature: against the twelve entries of a small change in the still side's
    mm: three rows of a matrix by UNIT_MM, then the shift in mm.
    """

    value: float
    slope: Float64[np.ndarray, "12"]
    curvature: Float64[np.ndarray, "12 12"]


def make_moving(
    voxels: Float32[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    limits: tuple[float, float],
) -> Moving:
    """Gives a scan with `limits` at the middles of the first and last bin."""
    low, high = limits
    scale = (BINS - 1) / max(high - low, 1e-12)
    bins = np.clip((voxels - np.float32(low)) * np.float32(scale), 0, BINS - 1)
    return Moving(bins.astype(np.float32), np.linalg.inv(affine))


def spread(
    values: Float[np.ndarray, "n"], count: int
) -> tuple[Int32[np.ndarray, "2 n"], Float32[np.ndarray, "2 n"]]:
    """Gives the two classes of `count` beside each value (0 to 1) and their shares."""
    at = np.clip(values, 0, 1) * np.float32(count - 1)
    below = np.minimum(at.astype(np.int32), count - 2)
    upper = (at - below).astype(np.float32)
    return np.stack([below, below + 1]), np.stack([1 - upper, upper])


def measure(still: Still, moving: Moving, matrix: np.ndarray) -> float:
    """Gives the mutual information under `matrix` (still mm to scan mm) alone."""
    values, _, valid = _sample(moving, matrix, still.points, slopes=False)
    if valid.size < MIN_OVERLAP * still.points.shape[1]:
        return 0.0
    joint = _joint(still, valid, values)
    value = float((joint * _log_ratio(joint)).sum())
    return value * valid.size / still.points.shape[1]


def measure_slope(still: Still, moving: Moving, matrix: np.ndarray) -> Score:
    """Gives the mutual information with its slope and curvature."""
    total = still.points.shape[1]
    values, slopes, valid = _sample(moving, matrix, still.points, slopes=True)
    if valid.size < MIN_OVERLAP * total:
        return Score(0.0, np.zeros(12), np.eye(12))
    joint = _joint(still, valid, values)
    ratio = _log_ratio(joint)
    overlap = valid.size / total
    # How the sum changes with a point's value, by class and bin: as its share is
    # smoothed over bins, so is what it is worth.
    worth = ndimage.gaussian_filter1d(ratio, SMOOTH_BINS, axis=1, mode="nearest")
    change = np.diff(worth, axis=1)
    classes, shares = still.classes[:, valid], still.shares[:, valid]
    bins = np.minimum(values.astype(np.int32), BINS - 2)
    pull = (shares * change[classes, bins]).sum(0)
    middle = (joint[:, 1:] + joint[:, :-1]) / 2
    expected = (middle * change**2).sum(1) / np.maximum(middle.sum(1), 1e-9)
    weight = (shares * expected.astype(np.float32)[classes]).sum(0)
    turned = (moving.to_index @ matrix)[:3, :3].astype(np.float32).T @ slopes
    arms = (still.points[:, valid] - still.centre[:, None]) / UNIT_MM
    arms = np.concatenate([arms, np.ones((1, valid.size))]).astype(np.float32)
    entries = (turned[:, None] * arms[None]).reshape(12, -1)
    slope = np.einsum("in,n->i", entries, pull.astype(np.float32), dtype=np.float64)
    # Sums of a fixed order, not BLAS: threads must not change the bytes.
    some = entries[:, ::3]
    curvature = np.einsum("in,jn->ij", some * weight[::3], some, dtype=np.float64)
    value = float((joint * ratio).sum()) * overlap
    order = [0, 1, 2, 4, 5, 6, 8, 9, 10, 3, 7, 11]
    slope, curvature = slope[order] / total, 3 * curvature[np.ix_(order, order)] / total
    return Score(value, slope, curvature)


def _joint(
    still: Still, valid: np.ndarray, values: np.ndarray
) -> Float64[np.ndarray, "classes bins"]:
    """Gives the shares of classes and bins among the points, smoothed along bins."""
    count = int(still.classes.max()) + 1
    below = np.minimum(values.astype(np.int32), BINS - 2)
    upper = values - below
    joint = np.zeros(count * BINS)
    for classes, shares in zip(still.classes, still.shares, strict=True):
        cell = classes[valid] * BINS + below
        share = shares[valid]
        for step, part in ((0, 1 - upper), (1, upper)):
            joint += np.bincount(cell + step, share * part, count * BINS)
    joint = joint.reshape(count, BINS)
    joint = ndimage.gaussian_filter1d(joint, SMOOTH_BINS, axis=1, mode="nearest")
    return joint / joint.sum()


def _log_ratio(joint: np.ndarray) -> Float64[np.ndarray, "classes bins"]:
    tiny = 1e-7
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return np.log((joint + tiny) / (apart + tiny))


def _sample(
    moving: Moving, matrix: np.ndarray, points: np.ndarray, *, slopes: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives values and slopes a voxel (trilinear) of the points within the scan."""
    pull = moving.to_index @ matrix
    at = pull[:3, :3] @ points + pull[:3, 3:]
    low = np.floor(at).astype(np.int32)
    size = np.array(moving.voxels.shape, np.int32)[:, None]
    valid = np.flatnonzero(((low >= 0) & (low < size - 1)).all(0))
    low = low[:, valid]
    fx, fy, fz = (at[:, valid] - low).astype(np.float32)
    _, ny, nz = moving.voxels.shape
    first = (low[0] * ny + low[1]) * nz + low[2]
    flat = moving.voxels.ravel()
    corner = [flat.take(first + step) for step in _steps(ny, nz)]
    near, far = corner[0::2], corner[1::2]
    line = [a + (b - a) * fz for a, b in zip(near, far, strict=True)]
    front, back = (line[i] + (line[i + 1] - line[i]) * fy for i in (0, 2))
    values = front + (back - front) * fx
    if not slopes:
        return values, np.empty((3, 0), np.float32), valid
    rise = [b - a for a, b in zip(near, far, strict=True)]
    lower = rise[0] + (rise[1] - rise[0]) * fy
    upper = rise[2] + (rise[3] - rise[2]) * fy
    along_z = lower + (upper - lower) * fx
    along_y = (line[1] - line[0]) * (1 - fx) + (line[3] - line[2]) * fx
    return values, np.stack([back - front, along_y, along_z]), valid


def _steps(ny: int, nz: int) -> list[int]:
    """Offsets of a voxel's eight corners, z fastest, then y, then x."""
    return [x * ny * nz + y * nz + z for x in (0, 1) for y in (0, 1) for z in (0, 1)]
