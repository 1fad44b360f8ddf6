"""The brain of a head by the template: laid over it, then fitted point by point.

The template's brain comes through an affine, which leaves some millimetres. Along the
outward normal of each point of its surface the scan shows a profile: cortex, fluid,
dark bone, scalp. Profiles of neighbouring points are alike but for a shift, whatever
the sequence. So each point is moved to where its profile is most like the mean of its
region, the means are taken anew, and again, ever finer (congealing; Learned-Miller
2006); the move of a point is the mean over near points. What is left open, the shift of
a whole region, is settled by bone, which is dark in every sequence: the surface lies
where the region's profile has fallen most of its way to the bone. No intensity is known
beforehand.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from brainjax.volume.brain_surface import Surface, neighbours, template_surface
from brainjax.volume.register import Alignment, align_to_template
from brainjax.volume.through import resample_through

REACH_MM = 20
"""A profile goes so far to either side."""

MOVE_MM = 9
"""A point may go so far."""

WINDOW_MM = 8
"""So much of a profile to either side of the surface is compared."""

ROUNDS = ((12.0, 0.02), (8.0, 0.01), (6.0, 0.005), (5.0, 0.005))
"""Width of the mean over near points (mm), and the price of a move (per mm^2)."""

REGION_MM = 20.0
SMOOTH_MM = 4.0
"""Width of a region; of the last smoothing of the moves."""

SHARPNESS = 60.0
"""How sharply the best move is preferred over the next best."""

STRANGE = 9.0
"""Squared deviation from which a value counts as strange, no matter how strange."""

FALL, FALL_BRIGHT = 0.2, 0.5
"""Share of the fall to the bone that is left at the surface: of one from dark fluid,
which adds little to the bone, and of one from fluid that outshines the brain (T2w)."""

BRIGHT = 0.4
"""Rise from the brain to the fluid, as a share of the fall, that is surely one."""

ROOF_MM, SOFT_MM = 0.0, 20.0
"""Points above this height of the template lie under the skull's roof; how sharply."""

SHARED_MM = 12.0
"""Width of the mean of a region's shift over its neighbours."""

FAINT = 0.02
"""What the shift of the whole roof counts; a region's counts by its fall."""

TOP = 1.3
"""Intensities are cut here, in units of the brain's 98th percentile: fat, vessels."""


def find_by_template(
    voxels: Float32[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    alignment: Alignment | None = None,
) -> Bool[np.ndarray, "x y z"]:
    """Gives the brain of a head of any contrast, ventricles and outer fluid included.

    Args:
        voxels: the scan, axes in RAS+; a bias field is better removed before.
        affine: its voxel indices to mm.
        alignment: an affine one to the template; found here where it is None.

    Raises MissingExtraError where nilearn is absent.
    """
    if alignment is None or alignment.kind != "affine":
        alignment = align_to_template(voxels, affine, kind="affine")
    surface = template_surface()
    head = resample_through(
        voxels, affine, alignment.matrix, surface.affine, surface.depth.shape
    )
    depth = surface.moved(fit_surface(head, surface))
    back = np.linalg.inv(alignment.matrix)
    outside = float(depth.max())
    depth = resample_through(
        depth, surface.affine, back, affine, voxels.shape, outside=outside
    )
    return depth < 0


def fit_surface(
    head: Float32[np.ndarray, "x y z"], surface: Surface
) -> Float64[np.ndarray, " p"]:
    """Gives mm each point of the surface goes outwards; `head` is on its grid."""
    profiles = read_profiles(head, surface)
    moves = common = np.zeros(len(profiles))
    for width_mm, price in ROUNDS:
        cost = neighbours(width_mm) @ _strangeness(profiles, moves)
        cost += price * (_steps() - common[:, None]) ** 2
        moves = neighbours(SMOOTH_MM) @ _best_move(cost)
        shift = _shift(_window(profiles, moves), surface.points[:, 2])
        moves, common = moves + shift, common + shift
    return np.clip(moves, -MOVE_MM, MOVE_MM)


def read_profiles(
    head: Float32[np.ndarray, "x y z"], surface: Surface
) -> Float64[np.ndarray, "p t"]:
    """Gives intensities along the normals, each mm; 1 is the brain's brightest."""
    steps = np.arange(-REACH_MM, REACH_MM + 1)
    at = surface.points[:, None] + steps[:, None] * surface.normals[:, None]
    at = (at - surface.affine[:3, 3]) / surface.affine[0, 0]
    values = ndimage.map_coordinates(head, at.transpose(2, 0, 1), order=1)
    low = values.min()
    high = np.percentile(head[surface.depth < -6], 98)
    return np.clip((values - low) / max(high - low, 1e-12), 0, TOP).astype(np.float64)


def _steps() -> np.ndarray:
    return np.arange(-MOVE_MM, MOVE_MM + 1)


def _strangeness(
    profiles: Float64[np.ndarray, "p t"], moves: Float64[np.ndarray, " p"]
) -> Float64[np.ndarray, "p m"]:
    """Gives, for each move of each point, how unlike its region its profile is."""
    region = neighbours(REGION_MM)
    now = _window(profiles, moves)
    mean = region @ now
    spread = np.sqrt(region @ (now - mean) ** 2) + 0.03
    cost = np.empty((len(profiles), len(_steps())))
    for column, step in enumerate(_steps()):
        first = REACH_MM + step - WINDOW_MM
        part = profiles[:, first : first + 2 * WINDOW_MM + 1]
        cost[:, column] = np.minimum(((part - mean) / spread) ** 2, STRANGE).mean(1)
    return cost


def _best_move(cost: Float64[np.ndarray, "p m"]) -> Float64[np.ndarray, " p"]:
    weights = np.exp(-SHARPNESS * (cost - cost.min(axis=1, keepdims=True)))
    return (weights * _steps()).sum(1) / weights.sum(1)


def _window(
    profiles: Float64[np.ndarray, "p t"], moves: Float64[np.ndarray, " p"]
) -> Float64[np.ndarray, "p w"]:
    """Gives each profile round its moved point, linearly between whole mm."""
    steps = np.arange(-WINDOW_MM, WINDOW_MM + 1)
    return _interpolated(profiles, REACH_MM + moves[:, None] + steps)


def _interpolated(
    rows: Float64[np.ndarray, "n t"], at: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, "n w"]:
    """Gives each row at places between its columns, linearly."""
    at = np.broadcast_to(
        np.clip(at, 0, rows.shape[1] - 1.001), (len(rows), at.shape[-1])
    )
    below = at.astype(np.int64)
    share = at - below
    each = np.arange(len(rows))[:, None]
    return rows[each, below] * (1 - share) + rows[each, below + 1] * share


def _shift(
    windows: Float64[np.ndarray, "p w"], height: Float64[np.ndarray, " p"]
) -> Float64[np.ndarray, " p"]:
    """Gives mm from each point outwards to where its region has fallen to the bone.

    Below the roof, where no bone lies before air, muscle and stem, the roof's counts.
    """
    whole, _ = _to_bone(np.median(windows[height > ROOF_MM], axis=0)[None])
    shift, fall = _to_bone(neighbours(REGION_MM) @ windows)
    weight = fall / (1 + np.exp((ROOF_MM - height) / SOFT_MM))
    near = neighbours(SHARED_MM)
    return (near @ (weight * shift + FAINT * whole)) / (near @ (weight + FAINT))


def _to_bone(
    windows: Float64[np.ndarray, "n w"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Gives mm outwards to where enough has fallen, and how deep the whole fall is."""
    fine = np.arange(-6, 6.01, 0.25)
    values = _interpolated(windows, fine + WINDOW_MM)
    near = (fine >= -2) & (fine <= 5)
    bone = np.where(near, values, np.inf).argmin(1)[:, None]
    darkest = np.take_along_axis(values, bone, axis=1)
    before = np.arange(len(fine)) <= bone
    fall = np.where(before, values, -np.inf).max(1, keepdims=True) - darkest
    rise = (fall + darkest - values[:, :1]) / np.maximum(fall, 1e-6)
    left = FALL + (FALL_BRIGHT - FALL) * np.clip(rise / BRIGHT, 0, 1)
    above = before & (values >= darkest + left * fall)
    last = len(fine) - 1 - above[:, ::-1].argmax(1)
    return np.clip(fine[last], -2, 2), fall[:, 0]
