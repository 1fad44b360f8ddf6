"""Where a scan lies: beside the ICBM152 template, or beside a scan of its session.

Mutual information is climbed from coarse to fine. What counts is inside the brain and
a band round it, so that skull and neck cannot pull. Every matrix is named by what it
maps, in mm: `template_to_scan` is what resampling onto the template needs.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainjax.errors import InputRefusedError
from brainjax.volume.mutual import (
    UNIT_MM,
    Moving,
    Still,
    make_moving,
    measure,
    measure_slope,
    spread,
)
from brainjax.volume.scan import spacing_of
from brainjax.volume.space import grid_affine, resample, whole_grid
from brainjax.volume.template import CENTRE_MM, Template, load_template

KINDS = ("affine", "rigid")

LEVELS_MM = (8.0, 4.0, 2.0)
POINTS_MM = (9.0, 5.0, 3.0)
ROUNDS = (12, 12, 16)

BAND_MM = 8.0
"""How far round the template's brain it counts that nothing like brain is there."""

TURNS_DEGREES = (-24.0, 0.0, 24.0)
SHIFTS_MM = (-18.0, 0.0, 18.0)
STARTS = 10
"""Of all turns and shifts, so many of the best are climbed from."""

SCALE = 0.93
"""The template is larger than most brains: by so much at the start."""

STIFFNESS = 0.1
"""Of the pull towards a brain of SCALE without shear: nats a squared strain."""

STILL_MM = 0.02
"""A step that moves no brain by more than this ends a climb."""


class Alignment(NamedTuple):
    """A matrix, and how good it is.

    matrix: mm of the still side (template, or the fixed scan) to mm of the scan.
    metric: mutual information at the finest level, nats by the share of the brain in
        the scan; of a rigid alignment to the template that of the affine it is of.
    kind: "affine" or "rigid".
    """

    matrix: Float64[np.ndarray, "4 4"]
    metric: float
    kind: str


class _Level(NamedTuple):
    mm: float
    still: Still
    rounds: int


def align_to_template(
    voxels: Float32[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    *,
    kind: str = "affine",
) -> Alignment:
    """Gives template mm to scan mm of a head or a stripped brain of any contrast.

    Args:
        voxels: the scan, axes in RAS+.
        affine: its voxel indices to mm; oblique and sheared ones serve too.
        kind: "affine"; "rigid" is the rigid part of it, the one that moves the
            template's brain least from where the affine has it.

    Raises InputRefusedError for another kind or a scan of one value,
    MissingExtraError where nilearn is absent.
    """
    if kind not in KINDS:
        raise InputRefusedError(f"align: wanted {' or '.join(KINDS)}, got {kind!r}")
    levels = template_levels()
    pyramid = _pyramid(voxels, affine)
    starts = _template_starts(*pyramid[0])
    matrix, metric = _climb_levels(levels, pyramid, starts, FREE)
    if kind == "rigid":
        matrix = rigid_part(matrix, levels[-1].still.points)
    return Alignment(matrix, metric, kind)


def align_scans(
    fixed: Float32[np.ndarray, "x y z"],
    fixed_affine: Float64[np.ndarray, "4 4"],
    moving: Float32[np.ndarray, "i j k"],
    moving_affine: Float64[np.ndarray, "4 4"],
    *,
    inside: Bool[np.ndarray, "x y z"] | None = None,
) -> Alignment:
    """Gives fixed mm to moving mm, rigid, of two scans of one head, of any contrast.

    `inside` is where the fixed scan counts (its brain); without it, its whole head.
    Raises InputRefusedError for a scan of one value.
    """
    levels = _scan_levels(fixed, fixed_affine, inside)
    pyramid = _pyramid(moving, moving_affine)
    shift = _head_centre(*pyramid[0]) - _head_centre(
        *_pyramid(fixed, fixed_affine, (LEVELS_MM[0],))[0]
    )
    starts = _scan_starts(levels[0].still.centre, shift)
    matrix, metric = _climb_levels(levels, pyramid, starts, RIGID)
    return Alignment(matrix, metric, "rigid")


def rigid_part(
    matrix: Float64[np.ndarray, "4 4"], points: Float64[np.ndarray, "3 n"]
) -> Float64[np.ndarray, "4 4"]:
    """Gives the rigid transform nearest to an affine one over points, in mm.

    Least squares (Arun et al. 1987).
    """
    centre = points.mean(1)
    spread_mm = (points - centre[:, None]) @ (points - centre[:, None]).T
    left, _, right = np.linalg.svd(matrix[:3, :3] @ spread_mm)
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ hand @ right
    rigid[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def _basis(names: str) -> Float64[np.ndarray, "entries 12"]:
    """Gives which of the twelve entries move together: turns, scale, all, shifts."""
    rows = []
    if "turns" in names:
        for a, b in ((2, 1), (0, 2), (1, 0)):
            row = np.zeros(12)
            row[3 * a + b], row[3 * b + a] = 1, -1
            rows.append(row)
    if "scale" in names:
        rows.append(np.r_[np.eye(3).ravel(), 0, 0, 0])
    if "all" in names:
        rows.extend(np.eye(12)[:9])
    return np.stack([*rows, *np.eye(12)[9:]])


RIGID = _basis("turns")
SIMILAR = _basis("turns scale")
FREE = _basis("all")


def _climb_levels(
    levels: list[_Level], pyramid: list, starts: list, basis: np.ndarray
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Gives the best matrix and its metric: many starts, fewer and finer climbs."""
    rigid = basis is RIGID
    moving = make_moving(*pyramid[0], _limits(*pyramid[0], None, None))
    still = levels[0].still
    found = [(measure(still, moving, start), start) for start in starts]
    found = _best(found, STARTS)
    found = [
        _climb(levels[0], moving, start, RIGID if rigid else SIMILAR)
        for _, start in found
    ]
    for level, image, count in zip(levels, pyramid, (3, 2, 1), strict=True):
        found = _best(found, count)
        limits = _limits(*image, level.still, found[0][1])
        moving = make_moving(*image, limits)
        found = [_climb(level, moving, start, basis) for _, start in found]
    value, matrix = found[0]
    return matrix, round(float(value), 6)


def _best(found: list, count: int) -> list:
    """Gives the best few; of equal ones the first, so that nothing is by chance."""
    return sorted(found, key=lambda pair: -pair[0])[:count]


def _climb(
    level: _Level, moving: Moving, matrix: np.ndarray, basis: np.ndarray
) -> tuple[float, np.ndarray]:
    """Climbs from a matrix (Levenberg and Marquardt); gives value and matrix."""
    still, damping = level.still, 0.01
    score, value = _look(still, moving, matrix, basis)
    for _ in range(level.rounds):
        slope, curvature = score
        stiff = curvature + damping * np.diag(np.diag(curvature))
        stiff += 1e-9 * np.trace(curvature) * np.eye(len(slope))
        entries = np.linalg.solve(stiff, slope) @ basis
        trial = _stepped(matrix, entries, still.centre, rigid=basis is RIGID)
        next_score, next_value = _look(still, moving, trial, basis)
        if next_value > value:
            score, value, matrix = next_score, next_value, trial
            damping = max(damping / 5, 1e-4)
        else:
            damping *= 10
        if np.abs(entries).max() < STILL_MM or damping > 1e3:
            break
    return measure(still, moving, matrix), matrix


def _look(
    still: Still, moving: Moving, matrix: np.ndarray, basis: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Gives slope and curvature along a basis, and the value; a strained brain pays."""
    value, slope, curvature = measure_slope(still, moving, matrix)
    if basis is not RIGID:
        square = matrix[:3, :3].T @ matrix[:3, :3]
        strain = (square - SCALE**2 * np.eye(3)) / 2
        value -= STIFFNESS / 2 * float((strain**2).sum())
        slope[:9] -= STIFFNESS * (square @ strain).ravel() / UNIT_MM
        curvature[range(9), range(9)] += STIFFNESS / UNIT_MM**2
    return (basis @ slope, basis @ curvature @ basis.T), value


def _stepped(
    matrix: np.ndarray, entries: np.ndarray, centre: np.ndarray, *, rigid: bool
) -> Float64[np.ndarray, "4 4"]:
    """Gives the matrix after a small change in the still side's mm."""
    turn = entries[:9].reshape(3, 3) / UNIT_MM
    step = np.eye(4)
    if rigid:
        vector = np.array([turn[2, 1], turn[0, 2], turn[1, 0]])
        step[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    else:
        step[:3, :3] += turn
    step[:3, 3] = centre + entries[9:] - step[:3, :3] @ centre
    return matrix @ step


def _pyramid(
    voxels: np.ndarray, affine: np.ndarray, levels: tuple = LEVELS_MM
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gives the scan at the levels, coarse first, each with its affine."""
    if not float(voxels.max()) > float(voxels.min()):
        raise InputRefusedError(
            f"align: wanted an image, got the constant {float(voxels.max()):g}"
        )
    images = []
    for mm in levels[::-1]:
        spacing = spacing_of(affine)
        # No finer than it is: a thick slice stays one voxel.
        grid = whole_grid(voxels.shape, spacing, mm)
        voxels, affine = resample(voxels, grid), grid_affine(affine, grid)
        images.append((voxels, affine))
    return images[::-1]


def _limits(
    voxels: np.ndarray,
    affine: np.ndarray,
    still: Still | None,
    matrix: np.ndarray | None,
) -> tuple[float, float]:
    """Gives the range of values that the bins divide: of the scan, or of its brain."""
    if still is None or matrix is None:
        low, high = np.percentile(voxels, (0.5, 99.7))
        return float(low), float(high)
    pull = np.linalg.inv(affine) @ matrix
    at = np.round(pull[:3, :3] @ still.points + pull[:3, 3:]).astype(int)
    size = np.array(voxels.shape)[:, None]
    at = at[:, ((at >= 0) & (at < size)).all(0)]
    if at.shape[1] < 100:
        return _limits(voxels, affine, None, None)
    low, high = np.percentile(voxels[tuple(at)], (0.2, 99.8))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


@functools.lru_cache(maxsize=1)
def template_levels() -> list[_Level]:
    """Gives the template's points and their tissues, coarse first; kept."""
    template = load_template(2.0)
    return [
        _Level(mm, _template_still(template, mm, points), rounds)
        for mm, points, rounds in zip(LEVELS_MM, POINTS_MM, ROUNDS, strict=True)
    ]


def _template_still(template: Template, mm: float, points_mm: float) -> Still:
    """Gives points in the brain and the band round it: outside, fluid, grey, white."""
    body = ndimage.distance_transform_edt(~template.brain, sampling=2.0)
    # The stem goes on below the file: what is beyond its last slice is not outside.
    points = _lattice(np.asarray(body) <= BAND_MM, template.affine, points_mm)
    sigma = 0.4 * mm / 2.0
    brain = template.brain.astype(np.float32)
    tissues = np.stack([brain, template.grey, template.white])
    tissues = [
        ndimage.gaussian_filter(t, sigma, mode="nearest") if mm > 2 else t
        for t in tissues
    ]
    at = _indices(template.affine, points)
    brain, grey, white = (
        ndimage.map_coordinates(t, at, order=1, mode="nearest") for t in tissues
    )
    shares = np.stack([1 - brain, brain - grey - white, grey, white])
    shares = np.clip(shares, 0, None).astype(np.float32)
    shares /= shares.sum(0)
    classes = np.arange(4, dtype=np.int32)[:, None].repeat(points.shape[1], 1)
    return Still(points, classes, shares, CENTRE_MM)


def _scan_levels(
    fixed: np.ndarray, affine: np.ndarray, inside: np.ndarray | None
) -> list[_Level]:
    levels = []
    images = _pyramid(fixed, affine)
    masks: list = [None] * len(images)
    if inside is not None:
        masks = [m for m, _ in _pyramid(inside.astype(np.float32), affine)]
    centre = _head_centre(*images[0])
    for (image, at), mask, mm, points_mm, rounds in zip(
        images, masks, LEVELS_MM, POINTS_MM, ROUNDS, strict=True
    ):
        body = _head(image) if mask is None else mask > 0.5
        points = _lattice(body, at, points_mm)
        values = ndimage.map_coordinates(image, _indices(at, points), order=1)
        low, high = np.percentile(values, (0.5, 99.5))
        classes, shares = spread((values - low) / max(high - low, 1e-12), 24)
        levels.append(_Level(mm, Still(points, classes, shares, centre), rounds))
    return levels


def _lattice(
    body: Bool[np.ndarray, "x y z"], affine: np.ndarray, mm: float
) -> Float64[np.ndarray, "3 n"]:
    """Gives points about `mm` apart in a body, in mm.

    Shaken (with one seed): on a lattice, voxels that fall on voxels would look better
    aligned than they are.
    """
    steps = np.linalg.norm(affine[:3, :3], axis=0) / mm
    axes = [
        (np.arange(max(int(n * s), 1)) + 0.5) / s - 0.5
        for n, s in zip(body.shape, steps, strict=True)
    ]
    at = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    rng = np.random.default_rng(0)
    at = at + rng.uniform(-0.5, 0.5, at.shape) / steps[:, None]
    size = np.array(body.shape)[:, None]
    near = np.clip(np.round(at).astype(int), 0, size - 1)
    at = at[:, body[tuple(near)]]
    return affine[:3, :3] @ at + affine[:3, 3:]


def _indices(affine: np.ndarray, points: np.ndarray) -> Float64[np.ndarray, "3 n"]:
    back = np.linalg.inv(affine)
    return back[:3, :3] @ points + back[:3, 3:]


def _head(voxels: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """Gives roughly what is not air: the largest part above a tenth of the range."""
    low, high = np.percentile(voxels, (1, 99))
    parts, count = ndimage.label(voxels > low + 0.15 * (high - low))  # type: ignore[misc]
    if count < 2:
        return parts > 0
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _head_centre(voxels: np.ndarray, affine: np.ndarray) -> Float64[np.ndarray, "3"]:
    """Gives the middle of the head's upper 140 mm, or of a stripped brain."""
    points = np.argwhere(_head(voxels)).T
    points = affine[:3, :3] @ points + affine[:3, 3:]
    top = np.percentile(points[2], 99.5)
    upper = points[:, points[2] > top - 140]
    return np.median(upper, axis=1)


def _template_starts(voxels: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """Gives turns and shifts round the middle of the head."""
    centre = _head_centre(voxels, affine)
    return [
        _placed(SCALE * turn, CENTRE_MM, centre + shift)
        for turn in _turns(TURNS_DEGREES)
        for shift in _shifts()
    ]


def _scan_starts(centre: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
    """Gives no change first, then turns about the head with and without a shift."""
    turns = [np.eye(3), *_turns((-15.0, 0.0, 15.0))]
    moves = [np.zeros(3), shift, *(shift + s for s in _shifts())]
    return [_placed(turn, centre, centre + move) for turn in turns for move in moves]


def _turns(degrees: tuple) -> list[np.ndarray]:
    return [
        Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        for angles in itertools.product(degrees, repeat=3)
    ]


def _shifts() -> list[np.ndarray]:
    return [np.array(shift) for shift in itertools.product(SHIFTS_MM, repeat=3)]


def _placed(turn: np.ndarray, of: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Gives the matrix that turns about `of` and lays it at `at`."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = at - turn @ of
    return matrix
