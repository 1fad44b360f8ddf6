"""Where a registration may begin: many turns and shifts, looked at once each.

On a coarse grid, by the mutual information of nearest voxels. A registration package
would set up a registration for each look.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.transform import Rotation

from brainjax.volume.itk import Image

BINS = 16
POINTS = 4000
"""At most so many are looked at, spread evenly."""

Matrix = Float64[np.ndarray, "4 4"]


def best_starts(
    still: Image, inside: Image, moving: Image, starts: Sequence[Matrix], count: int
) -> list[Matrix]:
    """Gives the best few of the matrices from `still` to `moving`, best first."""
    points, values = points_of(inside), still.voxels[inside.voxels > 0.5]
    step = -(-values.size // POINTS)
    points, values = points[:, ::step], values[::step]
    fixed = _binned(values, *np.percentile(values, (0.5, 99.5)))
    found = _binned(moving.voxels, *np.percentile(moving.voxels, (0.5, 99.7)))
    pull = np.linalg.inv(moving.affine)
    scores = [_look(points, fixed, found, pull @ start) for start in starts]
    # Of equal ones the first, so that nothing is by chance.
    order = np.argsort(-np.array(scores), kind="stable")
    return [starts[number] for number in order[:count]]


def turns(degrees: Sequence[float]) -> list[Float64[np.ndarray, "3 3"]]:
    """Gives rotations by every combination of angles about the three axes."""
    return [
        Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        for angles in itertools.product(degrees, repeat=3)
    ]


def shifts(mm: Sequence[float]) -> list[Float64[np.ndarray, " 3"]]:
    """Gives every combination of shifts along the three axes."""
    return [np.array(shift) for shift in itertools.product(mm, repeat=3)]


def along(mm: float) -> list[Float64[np.ndarray, " 3"]]:
    """Gives no shift and, of so many mm, one to either side along each axis."""
    ends = [side * mm * axis for axis in np.eye(3) for side in (-1, 1)]
    return [np.zeros(3), *(ends if mm else [])]


def placed(
    turn: Float64[np.ndarray, "3 3"],
    of: Float64[np.ndarray, " 3"],
    at: Float64[np.ndarray, " 3"],
) -> Matrix:
    """Gives the matrix that turns about `of` and lays it at `at`."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = at - turn @ of
    return matrix


def moved(
    start: Matrix,
    turn: Float64[np.ndarray, "3 3"],
    shift: Float64[np.ndarray, " 3"],
    of: Float64[np.ndarray, " 3"],
) -> Matrix:
    """Gives a start turned about where it lays `of`, and shifted."""
    at = start[:3, :3] @ of + start[:3, 3]
    return placed(turn @ start[:3, :3], of, at + shift)


def points_of(inside: Image) -> Float64[np.ndarray, "3 n"]:
    """Gives the mm of the voxels inside."""
    at = np.argwhere(inside.voxels > 0.5).T
    return inside.affine[:3, :3] @ at + inside.affine[:3, 3:]


def _look(points, fixed, found, pull: Matrix) -> float:
    """Gives mutual information, nats, by the share of the points in the scan."""
    at = np.rint(pull[:3, :3] @ points + pull[:3, 3:]).astype(np.int64)
    size = np.array(found.shape)[:, None]
    seen = ((at >= 0) & (at < size)).all(0)
    pairs = BINS * fixed[seen] + found[tuple(at[:, seen])]
    joint = np.bincount(pairs, minlength=BINS**2) / max(seen.sum(), 1)
    joint = joint.reshape(BINS, BINS)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    used = joint > 0
    nats = (joint[used] * np.log(joint[used] / apart[used])).sum()
    return float(seen.mean() * nats)


def _binned(values: np.ndarray, low: float, high: float) -> Int64[np.ndarray, "..."]:
    scaled = (values - low) / max(high - low, 1e-12) * BINS
    return np.clip(scaled, 0, BINS - 1).astype(np.int64)
