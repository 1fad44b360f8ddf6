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
from brainjax.volume.climb import (
    FREE,
    LEVELS_MM,
    POINTS_MM,
    RIGID,
    ROUNDS,
    SCALE,
    SIMILAR,
    STIFFNESS,
    Level,
    climb_levels,
    indices,
    lattice,
    make_pyramid,
)
from brainjax.volume.mutual import Still, spread
from brainjax.volume.template import CENTRE_MM, Template, load_template

KINDS = ("affine", "rigid")

TO_TEMPLATE = (SIMILAR, FREE, FREE)
"""What may change at each level but the first, after a rigid climb from each start: a
coarse brain that may grow from anywhere takes the whole head."""

BAND_MM = (8.0, 8.0, 4.0, 3.0)
"""How far round the template's brain it counts that there is no brain, at each level.

Far at first: it tells a brain from a head. Near at last: how much fluid lies round a
brain, which T2w shows as bright as that in it, must not change its size.
"""

TURNS_DEGREES = (-24.0, 0.0, 24.0)
SHIFTS_MM = (0.0, -18.0, 18.0)
"""About each axis and along it at the start; none comes first."""

DOUBT = 0.15
MORE_TURNS_DEGREES = (-36.0, -12.0, 12.0, 36.0)
"""Below so many nats a climb may have failed: it is begun again from these."""


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
    pyramid = make_pyramid(voxels, affine)
    centre, found = _head_centre(*pyramid[0]), []
    for turns in (TURNS_DEGREES, MORE_TURNS_DEGREES):
        if not found or found[0][1] < DOUBT:
            starts = _template_starts(centre, turns)
            found.append(climb_levels(levels, pyramid, starts, TO_TEMPLATE))
    matrix, metric = max(found, key=lambda pair: pair[1])
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
    pyramid = make_pyramid(moving, moving_affine)
    shift = _head_centre(*pyramid[0]) - _head_centre(
        *make_pyramid(fixed, fixed_affine, (LEVELS_MM[0],))[0]
    )
    starts = _scan_starts(levels[0].still.centre, shift)
    matrix, metric = climb_levels(levels, pyramid, starts, (RIGID, RIGID, RIGID))
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


@functools.lru_cache(maxsize=1)
def template_levels() -> list[Level]:
    """Gives the template's points and their tissues, coarse first; kept."""
    template = load_template(2.0)
    return [
        Level(_template_still(template, mm, points, band), rounds, stiffness)
        for mm, points, band, rounds, stiffness in zip(
            LEVELS_MM, POINTS_MM, BAND_MM, ROUNDS, STIFFNESS, strict=True
        )
    ]


def _template_still(
    template: Template, mm: float, points_mm: float, band_mm: float
) -> Still:
    """Gives points in the brain and round it: shares of outside, fluid, grey, white."""
    away = ndimage.distance_transform_edt(~template.brain, sampling=2.0)
    # The stem goes on below the file: what is beyond its last slice is not outside.
    points = lattice(np.asarray(away) <= band_mm, template.affine, points_mm)
    brain = template.brain.astype(np.float32)
    tissues = [brain, template.grey, template.white]
    if mm > 2:
        sigma = 0.4 * mm / 2.0
        tissues = [ndimage.gaussian_filter(t, sigma, mode="nearest") for t in tissues]
    at = indices(template.affine, points)
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
) -> list[Level]:
    levels = []
    images = make_pyramid(fixed, affine)
    masks: list = [None] * len(images)
    if inside is not None:
        masks = [m for m, _ in make_pyramid(inside.astype(np.float32), affine)]
    centre = _head_centre(*images[0])
    for (image, at), mask, points_mm, rounds in zip(
        images, masks, POINTS_MM, ROUNDS, strict=True
    ):
        body = _head(image) if mask is None else mask > 0.5
        points = lattice(body, at, points_mm)
        values = ndimage.map_coordinates(image, indices(at, points), order=1)
        low, high = np.percentile(values, (0.5, 99.5))
        classes, shares = spread((values - low) / max(high - low, 1e-12), 24)
        levels.append(Level(Still(points, classes, shares, centre), rounds, 0.0))
    return levels


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


def _template_starts(centre: np.ndarray, degrees: tuple) -> list[list]:
    """Gives turns round the middle of the head, and shifts of each."""
    return [
        [_placed(SCALE * turn, CENTRE_MM, centre + shift) for shift in _shifts()]
        for turn in _turns(degrees)
    ]


def _scan_starts(centre: np.ndarray, shift: np.ndarray) -> list[list]:
    """Gives turns about the head, no turn among them, with and without shifts."""
    moves = [np.zeros(3), *(shift + s for s in _shifts())]
    return [
        [_placed(turn, centre, centre + move) for move in moves]
        for turn in _turns((-15.0, 0.0, 15.0))
    ]


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
