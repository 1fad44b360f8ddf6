"""Where a scan lies: beside the ICBM152 template, or beside a scan of its session.

SimpleITK climbs mutual information from coarse to fine, from the best of many starts.
What counts is inside the brain and a band round it, so that skull and neck cannot
pull. Every matrix is named by what it maps, in mm: `template_to_scan` is what
resampling onto the template needs.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from brainjax.errors import InputRefusedError
from brainjax.volume.itk import Image, climb
from brainjax.volume.scan import spacing_of
from brainjax.volume.space import grid_affine, resample, whole_grid
from brainjax.volume.starts import (
    along,
    best_starts,
    moved,
    placed,
    points_of,
    shifts,
    turns,
)
from brainjax.volume.template import CENTRE_MM, load_template

KINDS = ("affine", "rigid")

LEVELS_MM = (8.0, 4.0, 2.0)
SHARES = (1.0, 0.4, 0.15)
"""Of the voxels at each level, so many are looked at."""

BAND_MM = (8.0, 3.0, 3.0)
"""How far round the template's brain it counts that there is no brain, at each level.

Far at first: it tells a brain from a head. Near at last: how much fluid lies round a
brain, which T2w shows as bright as that in it, must not change its size.
"""

SIZES = (0.84, 0.92, 1.01, 1.11)
"""Of a brain by the template's. Where it is wrong by a tenth, climbs go astray."""

TURNS_DEGREES = (-36.0, -24.0, -12.0, 0.0, 12.0, 24.0, 36.0)
FINER_DEGREES, FINER_MM, LOOKED_AT = (-6.0, 0.0, 6.0), 6.0, 5
"""Round so many of the best there is a second look, between the turns of the first."""

DOUBT, FURTHER_MM = 0.3, 14.0
"""Below so many nats a climb may have failed: it begins again from further off."""

SHIFTS_MM = (-18.0, 0.0, 18.0)
NEAR_DEGREES = (-15.0, 0.0, 15.0)
"""Within a session, where heads lie much alike."""

STARTS, CLIMBED = 2, {0: 4, 1: 2, 2: 1}
"""So many of the best starts of a size are kept; so many are climbed from on each
level: which is the best one shows on a finer grid."""

APART_MM = 3.0
"""Climbs that end nearer to each other than this over the brain found one place."""

CLIP = (0.5, 98.5)
"""Percentiles of the brain, with the band round it, that a scan is cut to."""

LEAST_SEEN = 100

HEAD_MM = 140.0
"""A head is centred by so much below its top."""


class Alignment(NamedTuple):
    """A matrix, and how good it is.

    matrix: mm of the still side (template, or the fixed scan) to mm of the scan.
    metric: mutual information at the finest level, in nats.
    kind: "affine" or "rigid".
    """

    matrix: Float64[np.ndarray, "4 4"]
    metric: float
    kind: str


class Still(NamedTuple):
    """What is laid on a scan at one level: an image, and where of it counts."""

    image: Image
    inside: Image


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
    levels, scan = template_levels(), _pyramid(voxels, affine)
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
    coarse, image = levels[0], _clipped(scan[0], levels[0], None)
    centre, found = _head_centre(scan[0]), []
    for moves in (along(0.0), along(FURTHER_MM)):
        if not found or found[0][1] < DOUBT:
            starts = [
                start
                for size in SIZES
                for start in _starts_of(
                    coarse, image, size, [centre + m for m in moves]
                )
            ]
            found.append(_climb_levels(levels, scan, starts, CENTRE_MM, "affine"))
            found = _sorted(found)
    return found[0]


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

    `inside` is where the fixed scan counts (its brain); without it, its whole head.
    Raises InputRefusedError for a scan of one value, MissingExtraError where SimpleITK
    is absent.
    """
    still = _pyramid(fixed, fixed_affine)
    if inside is None:
        bodies = [Image(_head(i.voxels), i.affine) for i in still]
    else:
        found = _pyramid(inside.astype(np.float32), fixed_affine)
        bodies = [Image(i.voxels > 0.5, i.affine) for i in found]
    levels = [Still(*pair) for pair in zip(still, bodies, strict=True)]
    scan = _pyramid(moving, moving_affine)
    centre = points_of(bodies[0]).mean(1)
    between = _head_centre(scan[0]) - _head_centre(still[0])
    moves = [np.zeros(3), between, *(between + s for s in shifts(SHIFTS_MM))]
    starts = [
        placed(turn, centre, centre + move)
        for turn in (np.eye(3), *turns(NEAR_DEGREES))
        for move in moves
    ]
    image = _clipped(scan[0], levels[0], None)
    starts = best_starts(*levels[0], image, starts, LOOKED_AT)
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
        image = _clipped(scan[finer], levels[finer], ends[0] if number else None)
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
    image = _clipped(scan[number], level, starts[0] if number else None)
    words = {
        "kind": kind if number else "sized",
        "centre": centre,
        "share": SHARES[number],
    }
    return _sorted([climb(*level, image, start, **words) for start in starts])


def _clipped(image: Image, still: Still, matrix: np.ndarray | None) -> Image:
    """Gives a scan without what is brighter or darker than its brain.

    Fat and vessels would take up the bins of the histogram. The brain is where `still`
    counts, through `matrix`; before that is known the whole scan counts.
    """
    values = image.voxels
    if matrix is not None:
        points = points_of(still.inside)
        pull = np.linalg.inv(image.affine) @ matrix
        at = np.rint(pull[:3, :3] @ points + pull[:3, 3:]).astype(np.int64)
        size = np.array(values.shape)[:, None]
        seen = at[:, ((at >= 0) & (at < size)).all(0)]
        if seen.shape[1] > LEAST_SEEN:
            values = values[tuple(seen)]
    low, high = np.percentile(values, CLIP)
    if not high > low:
        return image
    return image._replace(voxels=np.clip(image.voxels, low, high).astype(np.float32))


@functools.lru_cache(maxsize=1)
def template_levels() -> list[Still]:
    """Gives the template's tissues, coarse first: what every contrast is made of."""
    return [_template(mm, band) for mm, band in zip(LEVELS_MM, BAND_MM, strict=True)]


def _template(mm: float, band_mm: float) -> Still:
    """Outside is 0, fluid 1, grey matter 2, white matter 3, mixed where they meet."""
    fine = LEVELS_MM[-1]
    template = load_template(fine)
    pad = int(np.ceil(BAND_MM[0] / fine)) + 1
    # The stem goes on below the file: what is beyond its last slice is not outside.
    around = ((pad, pad), (pad, pad), (0, pad))
    brain, grey, white = (
        np.pad(part.astype(np.float32), around)
        for part in (template.brain, template.grey, template.white)
    )
    affine = template.affine.copy()
    affine[:3, 3] -= fine * np.array([pad, pad, 0])
    far = np.asarray(ndimage.distance_transform_edt(brain < 0.5, sampling=fine))
    near = _shrunk(Image((far <= band_mm).astype(np.float32), affine), mm)
    tissue = _shrunk(Image(brain + grey + 2 * white, affine), mm)
    return Still(tissue, Image(near.voxels > 0.5, near.affine))


def _pyramid(voxels: np.ndarray, affine: np.ndarray) -> list[Image]:
    """Gives the scan at the levels, coarse first."""
    if not float(voxels.max()) > float(voxels.min()):
        raise InputRefusedError(
            f"align: wanted an image, got the constant {float(voxels.max()):g}"
        )
    images = [Image(voxels, affine)]
    for mm in LEVELS_MM[::-1]:
        images.append(_shrunk(images[-1], mm))
    return images[:0:-1]


def _shrunk(image: Image, mm: float) -> Image:
    """Gives an image with voxels of `mm`, anti-aliased."""
    spacing = spacing_of(image.affine)
    if np.allclose(spacing, mm):
        return image
    grid = whole_grid(image.voxels.shape, spacing, mm)
    return Image(resample(image.voxels, grid), grid_affine(image.affine, grid))


def _head(voxels: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """Gives roughly what is not air: the largest part above a share of the range."""
    low, high = np.percentile(voxels, (1, 99))
    parts = np.empty(voxels.shape, np.int32)
    ndimage.label(voxels > low + 0.15 * (high - low), output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == (sizes.argmax() if sizes.any() else 0)


def _head_centre(image: Image) -> Float64[np.ndarray, " 3"]:
    """Gives the middle of the head's upper part, or of a stripped brain."""
    points = points_of(Image(_head(image.voxels), image.affine))
    top = np.percentile(points[2], 99.5)
    return np.median(points[:, points[2] > top - HEAD_MM], axis=1)
