"""A subject's brain: template points moved, sampled once, turned into tissues."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.phantom.atlas import FINE, Atlas
from brainjax.phantom.fields import Grid, sample, spline, spline_shape
from brainjax.phantom.head import head_distance
from brainjax.phantom.latents import Subject

PIVOT = (0.0, -18.0, 6.0)
"""Centre of the brain in template mm: what pose and size leave where it is."""

_FIELD_OF_VIEW = (176.0, 224.0, 192.0)
_HEAD_FIELD_OF_VIEW = (208.0, 256.0, 272.0)
_HEAD_CENTRE = (0.0, 0.0, -36.0)
_KNOT_MM = 24.0


class Anatomy(NamedTuple):
    """The voxels of a subject that are worth computing.

    `voxels` are flat indices into `grid`; `points` the template mm each shows;
    `tissues` their fractions by name, `maps` the other channels of the atlas, both
    empty until the one resampling; `answers` what effects want to be known.
    """

    grid: Grid
    head: bool
    voxels: Int[np.ndarray, " n"]
    points: Float[np.ndarray, "3 n"]
    tissues: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    answers: dict[str, float]


def make_grid(spacing: float, *, head: bool) -> Grid:
    """Gives the RAS+ grid of a cohort, brain centred (a head: with its neck)."""
    size = _HEAD_FIELD_OF_VIEW if head else _FIELD_OF_VIEW
    centre = _HEAD_CENTRE if head else (0.0, 0.0, 0.0)
    x, y, z = (round(mm / spacing) for mm in size)
    at = [c - spacing * (n - 1) / 2 for c, n in zip(centre, (x, y, z), strict=True)]
    return Grid((x, y, z), (at[0], at[1], at[2]), spacing)


def place(subject: Subject, atlas: Atlas, grid: Grid, *, head: bool) -> Anatomy:
    """Gives the subject before any effect: pose, head size, smooth deformation.

    p(x) = c + R (x - t) / (k a) + u(x), with size k, aspect a, rotation R and
    translation t; u is a cubic B-spline with knots 24 mm apart.
    """
    rng = subject.stream("pose")
    matrix, shift = _pose(rng, subject.latents.size)
    points = np.empty((3, *grid.shape), np.float32)
    axes = grid.axes()
    for row in range(3):
        x, y, z = (matrix[row, a] * axes[a] for a in range(3))
        wobble = spline(_coefficients(rng, grid), grid, _KNOT_MM)
        points[row] = x[:, None, None] + y[:, None] + z + shift[row] + wobble
    points = points.reshape(3, -1)
    voxels = np.flatnonzero(_near(points, atlas, head))
    return Anatomy(grid, head, voxels, points[:, voxels], {}, {}, {})


def _pose(rng: np.random.Generator, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrix [3, 3] and shift [3] from scan mm to template mm."""
    angles = np.radians(3.0) * rng.standard_normal(3)
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    aspect = 0.02 * rng.standard_normal(3)
    # Aspect changes the form, not the volume: that is the size's alone.
    matrix = matrix / (size * np.exp(aspect - aspect.mean()))
    shift = np.array(PIVOT) - matrix @ (2.0 * rng.standard_normal(3))
    return matrix.astype(np.float32), shift.astype(np.float32)


def _coefficients(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Coefficients in mm: broad swings, and finer ones on top."""
    shape = spline_shape(grid, _KNOT_MM)
    fine = rng.standard_normal(shape, np.float32)
    broad = rng.standard_normal(shape, np.float32)
    for axis in range(3):
        broad = (np.roll(broad, 1, axis) + broad + np.roll(broad, -1, axis)) / 3**0.5
    return (1.2 * fine + 1.8 * broad).astype(np.float32)


def _near(points: np.ndarray, atlas: Atlas, head: bool) -> np.ndarray:
    """Which points can belong to the brain (or head) or its immediate border."""
    field = atlas.outside
    outside = np.full(points.shape[1], 1e3, np.float32)
    cell = np.zeros(points.shape[1], np.int32)
    inside = np.ones(points.shape[1], bool)
    for row, size in enumerate(field.values.shape[:3]):
        at = (points[row] - np.float32(field.origin[row])) / np.float32(field.spacing)
        at = (at + np.float32(0.5)).astype(np.int32)
        inside &= (at > 0) & (at < size - 1)
        cell = cell * size + at
    outside[inside] = field.values.reshape(-1)[cell[inside]]
    if not head:
        return outside < 6
    return (head_distance(points, outside) < 6) | (outside < 6)


def resample(anatomy: Anatomy, atlas: Atlas) -> Anatomy:
    """Gives the anatomy with tissues and maps: the one resampling of the atlas."""
    outside = sample(atlas.outside, anatomy.points)[:, 0]
    # Beyond the brain there is nothing to look up: the most part of a head.
    near = np.flatnonzero(outside < 8)
    maps = {name: np.zeros(outside.size, np.float32) for name in FINE}
    fine = sample(atlas.fine, anatomy.points[:, near]).T
    for name, values in zip(FINE, fine, strict=True):
        maps[name][near] = values
    maps["outside"] = outside
    grey, white, ventricle = (maps.pop(n) for n in ("grey", "white", "ventricle"))
    csf = np.clip(1 - grey - white - ventricle, 0, 1)
    tissues = {"csf": csf, "grey": grey, "white": white, "ventricle": ventricle}
    return anatomy._replace(tissues=tissues, maps=maps)
