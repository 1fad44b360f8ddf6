"""Where a scan lies: beside the ICBM152 template, or beside a scan of its session.

SimpleITK climbs mutual information from coarse to fine, from the best of many starts.
What counts is inside the brain and a band round it, so that skull and neck cannot
pull. Every matrix is named by what it maps, in mm: `template_to_scan` is what
resampling onto the template needs.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.errors import InputRefusedError
from brainjax.volume.itk import Image, climb
from brainjax.volume.levels import (
    Still,
    clipped,
    find_head,
    grown,
    head_centre,
    pyramid,
    template_levels,
    unsheared,
)
from brainjax.volume.starts import (
    along,
    best_starts,
    moved,
    placed,
    points_of,
    shifts,
    turns,
)
from brainjax.volume.template import CENTRE_MM

KINDS = ("affine", "rigid")

SHARES = (1.0, 0.4, 0.15)
"""Of the voxels at each level, so many are looked at."""

SIZES = (0.84, 0.92, 1.01, 1.11)
"""Of a brain by the template's. Where it is wrong by a tenth, climbs go astray."""

TURNS_DEGREES = (-36.0, -24.0, -12.0, 0.0, 12.0, 24.0, 36.0)
FINER_DEGREES, FINER_MM, LOOKED_AT = (-6.0, 0.0, 6.0), 6.0, 5
"""Round so many of the best there is a second look, between the turns of the first."""

DOUBT, FURTHER_MM = 0.3, 14.0
"""Below so many nats a climb may have failed: it begins again from further off."""

LARGE, SMALLER = 1.0, (0.74, 0.82, 0.91)
"""Of a brain by the template's; those of all 147 heads of IXI are smaller (0.82-0.98).
Where a climb ended larger, smaller ones are tried from there: a T2w scan can draw the
template up to its scalp, by a fourth too large."""

LEAST_SIZE = 0.7
"""Of a brain by the template's, that a second try may end at: the fewer voxels, the
more any values agree."""

SHIFTS_MM = (-18.0, 0.0, 18.0)
RIM_MM = 6.0
"""By so much a brain is widened where two scans of one head are laid on each other."""

NEAR_DEGREES = (-15.0, 0.0, 15.0)
"""Within a session, where heads lie much alike."""

STARTS, CLIMBED = 2, {0: 4, 1: 2, 2: 1}
"""So many of the best starts of a size are kept; so many are climbed from on each
level: which is the best one shows on a finer grid."""

APART_MM = 3.0
"""Climbs that end nearer to each other than this over the brain found one place."""


class Alignment(NamedTuple):
    """A matrix, and how good it is.

    matrix: mm of the still side (template, or the fixed scan) to mm of the scan.
    metric: mutual information at the finest level, in nats.
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
    start: Alignment | None = None,
) -> Alignment:
    """Gives template mm to scan mm of a head or a stripped brain of any contrast.

    Args:
        voxels: the scan, axes in RAS+.
        affine: its voxel indices to mm; oblique and sheared ones serve too.
        kind: "affine"; "rigid" is the rigid part of it, the one that moves the
            template's brain least from where the affine has it.
        start: an affine that is near already; only the finest level is climbed.

    Raises InputRefusedError for another kind or a scan of one value,
    MissingExtraError where nilearn or SimpleITK is absent.
    """
    if kind not in KINDS:
        raise InputRefusedError(f"align: wanted {' or '.join(KINDS)}, got {kind!r}")
    levels, scan = template_levels(), pyramid(voxels, affine)
    if start is None:
        found = _find_template(levels, scan)
    else:
        near = [start.matrix]
        found = _climb_level(2, levels, scan, near, CENTRE_MM, "affine")[0]
    matrix, metric = found
    if kind == "rigid":
        matrix = rigid_part(matrix, points_of(levels[0].inside))
    return Alignment(matrix, metric, kind)


def _find_template(
    levels: list[Still], scan: list[Image]
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Gives the affine and its metric, from the head's middle or else further off."""
    coarse, image = levels[0], clipped(scan[0], levels[0], None)
    centre, found = head_centre(scan[0]), []
    for moves in (along(0.0), along(FURTHER_MM)):
        if not found or found[0][1] < DOUBT:
            starts = [
                start
                for size in SIZES
                for start in _starts_of(
                    coarse, image, size, [centre + m for m in moves]
                )
            ]
            end = _climb_levels(levels, scan, starts, CENTRE_MM, "affine")
            found = _sorted([*found, end, *_smaller(levels, scan, end)])
    return found[0]


def _smaller(
    levels: list[Still], scan: list[Image], end: tuple[np.ndarray, float]
) -> list[tuple[Float64[np.ndarray, "4 4"], float]]:
    """Gives where climbs end that begin smaller than a large one; none of others."""
    matrix, metric = end
    if metric >= DOUBT and np.linalg.det(matrix[:3, :3]) <= LARGE**3:
        return []
    at = matrix[:3, :3] @ CENTRE_MM + matrix[:3, 3]
    starts = [placed(size * matrix[:3, :3], CENTRE_MM, at) for size in SMALLER]
    ends = _climb_level(2, levels, scan, starts, CENTRE_MM, "affine")
    return [end for end in ends if np.linalg.det(end[0][:3, :3]) > LEAST_SIZE**3]


def _starts_of(
    coarse: Still, image: Image, size: float, places: list[np.ndarray]
) -> list[Float64[np.ndarray, "4 4"]]:
    """Gives the best starts of one size: of all turns, then of those between them.

    Sizes do not compete: a coarse T2w head is most like a template that fills it.
    """
    starts = [
        placed(size * turn, CENTRE_MM, place)
        for place in places
        for turn in turns(TURNS_DEGREES)
    ]
    finer = [
        moved(start, turn, move, CENTRE_MM)
        for start in best_starts(*coarse, image, starts, LOOKED_AT)
        for turn in turns(FINER_DEGREES)
        for move in along(FINER_MM)
    ]
    return best_starts(*coarse, image, finer, STARTS)


def align_scans(
    fixed: Float32[np.ndarray, "x y z"],
    fixed_affine: Float64[np.ndarray, "4 4"],
    moving: Float32[np.ndarray, "i j k"],
    moving_affine: Float64[np.ndarray, "4 4"],
    *,
    inside: Bool[np.ndarray, "x y z"] | None = None,
) -> Alignment:
    """Gives fixed mm to moving mm, rigid, of two scans of one head, of any contrast.

    `inside` is where the fixed scan counts (its brain, a rim round it is added, as the
    outline tells most); without it, its whole head.
    Raises InputRefusedError for a scan of one value, MissingExtraError where SimpleITK
    is absent.
    """
    still = [unsheared(image) for image in pyramid(fixed, fixed_affine)]
    if inside is None:
        bodies = [Image(find_head(i.voxels), i.affine) for i in still]
    else:
        found = pyramid(inside.astype(np.float32), fixed_affine)
        found = [unsheared(image) for image in found]
        bodies = [grown(Image(i.voxels > 0.5, i.affine), RIM_MM) for i in found]
    levels = [Still(*pair) for pair in zip(still, bodies, strict=True)]
    scan = pyramid(moving, moving_affine)
    centre = points_of(bodies[0]).mean(1)
    between = head_centre(scan[0]) - head_centre(still[0])
    moves = [np.zeros(3), between, *(between + s for s in shifts(SHIFTS_MM))]
    starts = [
        placed(turn, centre, centre + move)
        for turn in (np.eye(3), *turns(NEAR_DEGREES))
        for move in moves
    ]
    image = clipped(scan[0], levels[0], None)
    # What the headers say is always one of them.
    starts = [starts[0], *best_starts(*levels[0], image, starts[1:], LOOKED_AT)]
    matrix, metric = _climb_levels(levels, scan, starts, centre, "rigid")
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


def _climb_levels(
    levels: list[Still],
    scan: list[Image],
    starts: list[np.ndarray],
    centre: np.ndarray,
    kind: str,
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Gives the best matrix and its metric: many starts, few climbs, one to the end.

    On the coarse grid sizes stay as the start has them: the outline of a head is
    clearer than that of its brain, and would draw the template up to it.
    """
    points, ends = points_of(levels[0].inside), starts
    found: list[tuple[np.ndarray, float]] = []
    for number, count in CLIMBED.items():
        finer = max(number, 1)
        image = clipped(scan[finer], levels[finer], ends[0] if number else None)
        ends = best_starts(*levels[finer], image, _distinct(ends, points), count)
        found = _climb_level(number, levels, scan, ends, centre, kind)
        ends = [matrix for matrix, _ in found]
    return found[0]


def _sorted(found: list[tuple[np.ndarray, float]]) -> list[tuple[np.ndarray, float]]:
    return sorted(found, key=lambda pair: -pair[1])


def _distinct(
    ends: list[np.ndarray], points: Float64[np.ndarray, "3 n"]
) -> list[Float64[np.ndarray, "4 4"]]:
    """Gives the first end of each place."""
    kept: list[np.ndarray] = []
    for end in ends:
        gaps = ((end - other)[:3] for other in kept)
        gaps = [np.linalg.norm(g[:, :3] @ points + g[:, 3:], axis=0) for g in gaps]
        if all(gap.mean() > APART_MM for gap in gaps):
            kept.append(end)
    return kept


def _climb_level(
    number: int,
    levels: list[Still],
    scan: list[Image],
    starts: list[np.ndarray],
    centre: np.ndarray,
    kind: str,
) -> list[tuple[Float64[np.ndarray, "4 4"], float]]:
    """Climbs on one level from every start; the best first."""
    level = levels[number]
    image = clipped(scan[number], level, starts[0] if number else None)
    words = {
        "kind": kind if number else "sized",
        "centre": centre,
        "share": SHARES[number],
    }
    return _sorted([climb(*level, image, start, **words) for start in starts])
