"""Where the brain of a scan is, and which way leads from the template to it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from brainjax.errors import InputRefusedError
from brainjax.volume.aligned_recipe import AlignedRecipe
from brainjax.volume.brainmask import agreement, find_brain, for_heads
from brainjax.volume.centred import field_of_view
from brainjax.volume.itk import Image
from brainjax.volume.mask import Mask, find_mask
from brainjax.volume.register import (
    Alignment,
    align_scans,
    align_to_template,
    rigid_part,
)
from brainjax.volume.scan import Scan
from brainjax.volume.space import Grid, GridAxis, grid_affine
from brainjax.volume.starts import points_of
from brainjax.volume.template import load_template
from brainjax.volume.through import resample_through

OVERLAP_MM = 2.0
"""Grid on which a brain is held against the template's."""

MARGIN_MM = 4.0
"""By so much a brain that was laid on a scan may be too small."""


class Reference(NamedTuple):
    """What one scan of a session lends to the others.

    Attributes:
        voxels, affine: of the scan, in RAS+, as read.
        brain: its brain, on the same grid.
        out_affine: of the canonical volume.
        to_scan: 4x4, mm of the canonical volume to mm of the scan.
        source: its name.
    """

    voxels: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    brain: Bool[np.ndarray, "x y z"]
    out_affine: Float64[np.ndarray, "4 4"]
    to_scan: Float64[np.ndarray, "4 4"]
    source: str


class Place(NamedTuple):
    """Where a scan's brain is, and where it goes."""

    brain: Bool[np.ndarray, "x y z"]
    mask: str
    out_affine: Float64[np.ndarray, "4 4"]
    to_scan: Float64[np.ndarray, "4 4"]
    facts: dict[str, Any]


def place_alone(
    path: str | Path,
    scan: Scan,
    kind: str,
    recipe: AlignedRecipe,
    given: Bool[np.ndarray, "x y z"] | None,
    rough: Alignment | None,
) -> Place:
    """Finds template and brain of a scan that stands for itself.

    `rough`: where the template lay before the bias field was taken out, if looked for.
    """
    facts: dict[str, Any] = {}
    names = _masks(recipe.mask, kind)
    alignment = rough
    if rough is not None and recipe.bias != "none":
        alignment = align_to_template(scan.voxels, scan.affine, start=rough)
    if alignment is not None:
        facts["metric"] = round(alignment.metric, 5)
    if given is not None:
        brain, name = given, "given"
    else:
        brain, name, told = _find_brain(scan, names, alignment)
        facts |= told
    if not brain.any():
        raise InputRefusedError(f"{path}: wanted a brain, got none by mask {name}")
    if alignment is not None:
        facts["overlap"] = round(_overlap(scan, brain, alignment), 4)
    if recipe.registration == "none" or alignment is None:
        grid = field_of_view(scan, Mask(brain, name, None), recipe)
        return Place(brain, name, grid_affine(scan.affine, grid), np.eye(4), facts)
    to_scan = alignment.matrix
    if recipe.registration == "rigid":
        to_scan = rigid_part(to_scan, _template_points())
    return Place(brain, name, canonical_affine(recipe), to_scan, facts)


def needs_template(
    recipe: AlignedRecipe, kind: str, given: Bool[np.ndarray, "x y z"] | None
) -> bool:
    """Says whether a scan is laid beside the template.

    For its place, for its brain, or to know where in a head the bias field matters.
    """
    masked = given is None and "template" in _masks(recipe.mask, kind)
    flattened = recipe.bias != "none" and kind == "head"
    return masked or flattened or recipe.registration != "none"


def with_margin(
    scan: Scan, brain: Bool[np.ndarray, "x y z"]
) -> Bool[np.ndarray, "x y z"]:
    """Gives a brain and what lies within MARGIN_MM of it."""
    far = ndimage.distance_transform_edt(~brain, sampling=scan.spacing)
    return np.asarray(far) <= MARGIN_MM


def template_on_scan(scan: Scan, alignment: Alignment) -> Bool[np.ndarray, "x y z"]:
    """Gives the template's brain on the scan's grid, with a margin."""
    template = load_template(OVERLAP_MM)
    far = ndimage.distance_transform_edt(~template.brain, sampling=OVERLAP_MM)
    brain = np.asarray(far) <= MARGIN_MM
    laid = resample_through(
        brain.astype(np.float32),
        template.affine,
        np.linalg.inv(alignment.matrix),
        scan.affine,
        scan.voxels.shape,
    )
    return laid > 0.5


def _masks(words: str, kind: str) -> list[str]:
    auto = "nonzero" if kind == "nonzero" else for_heads()
    return [auto if word == "auto" else word for word in words.split(",")]


def _find_brain(
    scan: Scan, names: list[str], alignment: Alignment | None
) -> tuple[Bool[np.ndarray, "x y z"], str, dict[str, Any]]:
    """Gives the mask of the first back end; the others are held against it."""
    found = {}
    for name in names:
        if name == "head":
            body = find_mask(scan.voxels, scan.spacing, kind="head")
            found[name] = (mask_on_scan(body, scan), ())
        else:
            brain = find_brain(
                scan.voxels, scan.affine, backend=name, alignment=alignment
            )
            found[name] = (brain.mask, brain.doubts)
    masks = {name: mask for name, (mask, _) in found.items()}
    told: dict[str, Any] = {"doubts": list(found[names[0]][1])}
    if len(masks) > 1:
        pairs = agreement(masks, scan.affine)
        told["agreement"] = [
            {"first": first, "second": second, **row._asdict()}
            for (first, second), row in pairs.items()
        ]
    return masks[names[0]], names[0], told


def place_beside(
    scan: Scan, reference: Reference, given: Bool[np.ndarray, "x y z"] | None
) -> Place:
    """Lays a scan over the reference of its session; takes the way from there."""
    alignment = align_scans(
        reference.voxels,
        reference.affine,
        scan.voxels,
        scan.affine,
        inside=reference.brain,
    )
    back = np.linalg.inv(alignment.matrix)
    brain, name = given, "given"
    if brain is None:
        carried = resample_through(
            reference.brain.astype(np.float32),
            reference.affine,
            back,
            scan.affine,
            scan.voxels.shape,
        )
        brain, name = carried > 0.5, "session"
    facts = {
        "metric": round(alignment.metric, 5),
        "reference": reference.source,
        "reference_to_scan": alignment.matrix.tolist(),
    }
    to_scan = alignment.matrix @ reference.to_scan
    return Place(brain, name, reference.out_affine, to_scan, facts)


def canonical_affine(recipe: AlignedRecipe) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of the canonical volume: the template's brain in the middle."""
    affine = np.diag([*recipe.voxel_mm, 1.0])
    first = (np.array(recipe.shape) - 1) / 2 * recipe.voxel_mm
    affine[:3, 3] = _template_centre() - first
    return affine


def _template_points() -> Float64[np.ndarray, "3 n"]:
    """Gives the mm of the template's brain."""
    template = load_template(OVERLAP_MM)
    return points_of(Image(template.brain, template.affine))


def _template_centre() -> Float64[np.ndarray, " 3"]:
    """Gives the middle of the box round the template's brain, in mm."""
    points = _template_points()
    return (points.min(1) + points.max(1)) / 2


def _overlap(
    scan: Scan, brain: Bool[np.ndarray, "x y z"], alignment: Alignment
) -> float:
    """Gives Dice of a brain and the template's, in the template's space."""
    template = load_template(OVERLAP_MM)
    found = resample_through(
        brain.astype(np.float32),
        scan.affine,
        alignment.matrix,
        template.affine,
        template.brain.shape,
    )
    both = np.count_nonzero((found > 0.5) & template.brain)
    return 2 * both / (np.count_nonzero(found > 0.5) + np.count_nonzero(template.brain))


def mask_on_scan(mask: Mask, scan: Scan) -> Bool[np.ndarray, "x y z"]:
    """Gives a mask on the scan's own grid."""
    if mask.grid is None:
        return mask.voxels
    x, y, z = (GridAxis(0.0, 1.0, n) for n in scan.voxels.shape)
    return mask.on(Grid(x, y, z))
