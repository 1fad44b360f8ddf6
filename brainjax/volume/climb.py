"""From starts to one matrix: mutual information climbed from coarse to fine."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.spatial.transform import Rotation

from brainjax.errors import InputRefusedError
from brainjax.volume.mutual import (
    UNIT_MM,
    Moving,
    Still,
    make_moving,
    measure,
    measure_slope,
)
from brainjax.volume.scan import spacing_of
from brainjax.volume.space import grid_affine, resample, whole_grid

LEVELS_MM = (10.0, 6.0, 4.0, 2.0)
POINTS_MM = (10.0, 9.0, 5.0, 3.0)
ROUNDS = (8, 8, 12, 16)

COARSE = 2
"""Levels at which climbs begin: what leads the one astray is not there at the other."""

KEPT = (20, 8, 1)
"""So many of the best are climbed from at each level after the first."""

DISTINCT_MM = 4.0
"""Matrices that lay all points nearer to each other than this are one."""

SCALE = 0.93
"""The template is larger than most brains: by so much at the start."""

STIFFNESS = (1.0, 1.0, 0.5, 0.1)
"""Of the pull towards a brain of SCALE without shear at each level: nats a squared
strain. Coarse images of a head have other things of a brain's outline."""

STILL_MM = 0.02
"""A step that moves no brain by more than this ends a climb."""


MANY = 100
"""Points that say what range of values the brain has."""


class Image(NamedTuple):
    """Voxels, and their indices to mm."""

    voxels: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]


class Level(NamedTuple):
    """The still side at one blur, how many steps are taken there, how stiff it is."""

    still: Still
    rounds: int
    stiffness: float


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
        rows = list(np.eye(12)[:9])
    return np.stack([*rows, *np.eye(12)[9:]])


RIGID = _basis("turns")
SIMILAR = _basis("turns scale")
FREE = _basis("all")


def climb_levels(
    levels: list[Level], pyramid: list[Image], starts: list[list], bases: tuple
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Gives the best matrix and its metric: many starts (a list a turn), few ends."""
    found = []
    for level, image in zip(levels[:COARSE], pyramid, strict=False):
        found += _begin(level, image, starts)
    rest = zip(levels[1:], pyramid[1:], bases, KEPT, strict=True)
    for level, image, basis, count in rest:
        found = [_measured(level.still, image, matrix) for _, matrix in found]
        best = _best(found, count, level.still)
        moving = make_moving(*image, _limits(image, level.still, best[0][1]))
        found = [_climb(level, moving, start, basis) for _, start in best]
    value, matrix = found[0]
    return matrix, round(float(value), 6)


def _begin(level: Level, image: Image, starts: list[list]) -> list:
    """Climbs from the first and the best start of each turn."""
    moving, found = make_moving(*image, _range(image.voxels)), []
    for turn in starts:
        scored = [(measure(level.still, moving, start), start) for start in turn]
        some = [turn[0], max(scored, key=lambda pair: pair[0])[1]]
        some = some[:1] if some[1] is some[0] else some
        found += [_climb(level, moving, start, RIGID) for start in some]
    return found


def _measured(
    still: Still, image: Image, matrix: np.ndarray
) -> tuple[float, np.ndarray]:
    """Gives the mutual information at another level, and the matrix again."""
    moving = make_moving(*image, _limits(image, still, matrix))
    return measure(still, moving, matrix), matrix


def _best(found: list, count: int, still: Still) -> list:
    """Gives the best few that differ; of equal ones the first: nothing is by chance."""
    some = still.points[:, :: max(still.points.shape[1] // 200, 1)]
    kept: list = []
    for value, matrix in sorted(found, key=lambda pair: -pair[0]):
        gaps = [(matrix - other)[:3] @ _homogeneous(some) for _, other in kept]
        if all(np.linalg.norm(gap, axis=0).max() > DISTINCT_MM for gap in gaps):
            kept.append((value, matrix))
        if len(kept) == count:
            break
    return kept


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((1, points.shape[1]))])


def _climb(
    level: Level, moving: Moving, matrix: np.ndarray, basis: np.ndarray
) -> tuple[float, np.ndarray]:
    """Climbs from a matrix (Levenberg and Marquardt); gives value and matrix."""
    still, damping = level.still, 0.01
    score, value = _look(level, moving, matrix, basis)
    for _ in range(level.rounds):
        slope, curvature = score
        stiff = curvature + damping * np.diag(np.diag(curvature))
        stiff += 1e-9 * np.trace(curvature) * np.eye(len(slope))
        entries = np.linalg.solve(stiff, slope) @ basis
        trial = _stepped(matrix, entries, still.centre, rigid=basis is RIGID)
        next_score, next_value = _look(level, moving, trial, basis)
        if next_value > value:
            score, value, matrix = next_score, next_value, trial
            damping = max(damping / 5, 1e-4)
        else:
            damping *= 10
        if np.abs(entries).max() < STILL_MM or damping > 1e3:
            break
    return measure(still, moving, matrix), matrix


def _look(
    level: Level, moving: Moving, matrix: np.ndarray, basis: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Gives slope and curvature along a basis, and the value; a strained brain pays."""
    value, slope, curvature = measure_slope(level.still, moving, matrix)
    if basis is not RIGID:
        square = matrix[:3, :3].T @ matrix[:3, :3]
        strain = (square - SCALE**2 * np.eye(3)) / 2
        value -= level.stiffness / 2 * float((strain**2).sum())
        slope[:9] -= level.stiffness * (square @ strain).ravel() / UNIT_MM
        curvature[range(9), range(9)] += level.stiffness / UNIT_MM**2
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


def make_pyramid(
    voxels: np.ndarray, affine: np.ndarray, levels: tuple[float, ...] = LEVELS_MM
) -> list[Image]:
    """Gives the scan at the levels, in mm and coarse first.

    Raises InputRefusedError for a constant.
    """
    if not float(voxels.max()) > float(voxels.min()):
        raise InputRefusedError(
            f"align: wanted an image, got the constant {float(voxels.max()):g}"
        )
    images = []
    for mm in levels[::-1]:
        grid = whole_grid(voxels.shape, spacing_of(affine), mm)
        voxels, affine = resample(voxels, grid), grid_affine(affine, grid)
        images.append(Image(voxels, affine))
    return images[::-1]


def _range(values: np.ndarray, share: float = 0.4) -> tuple[float, float]:
    """Gives the values below and above which lie `share` percent, not equal."""
    low, high = (float(v) for v in np.percentile(values, (share, 100 - share)))
    return (low, high) if high > low else (low, low + 1)


def _limits(image: Image, still: Still, matrix: np.ndarray) -> tuple[float, float]:
    """Gives the range of values that the bins divide: of what the points show."""
    at = np.round(indices(image.affine, matrix[:3, :3] @ still.points + matrix[:3, 3:]))
    size = np.array(image.voxels.shape)[:, None]
    at = at[:, ((at >= 0) & (at < size)).all(0)].astype(int)
    if at.shape[1] < MANY:
        return _range(image.voxels)
    return _range(image.voxels[tuple(at)], 0.2)


def lattice(
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


def indices(affine: np.ndarray, points: np.ndarray) -> Float64[np.ndarray, "3 n"]:
    back = np.linalg.inv(affine)
    return back[:3, :3] @ points + back[:3, 3:]
