"""Recipes that lay a raw head over the adult ICBM152 brain, and what they keep of it.

Read, correct the bias field, find the template and the brain, resample once through
all transforms together, scale. The steps are of the rooms `bias`, `register`,
`brainmask` and `through`; here is their order.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.aligned_recipe import AlignedRecipe
from brainjax.volume.bias import correct_bias
from brainjax.volume.canonical import Canonical, Codes
from brainjax.volume.centred import check_body, given_mask
from brainjax.volume.intensity import OUTSIDE, quantise, robust_limits
from brainjax.volume.mask import find_mask, millilitres
from brainjax.volume.placing import (
    Place,
    Reference,
    mask_on_scan,
    needs_template,
    place_alone,
    place_beside,
    template_on_scan,
    with_margin,
)
from brainjax.volume.planes import Planes, make_planes
from brainjax.volume.quality import measure
from brainjax.volume.register import align_to_template
from brainjax.volume.scan import Scan, read_scan
from brainjax.volume.through import resample_through

AFFINE_DIGITS = 5
"""Of an affine's entries: a hundredth of a millimetre at the far end of a scan."""


class Kept(NamedTuple):
    """What is kept beside a canonical volume, to judge it and to find the way back.

    Attributes:
        facts: JSON values: measures of quality, transforms, doubts.
        brain: on the grid of the scan in RAS+.
        affine: of that grid.
        to_scan: 4x4, mm of the canonical volume to mm of the scan.
        planes: pictures of the head on the canonical grid, with the mask's outline.
    """

    facts: dict[str, Any]
    brain: Bool[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    to_scan: Float64[np.ndarray, "4 4"]
    planes: Planes


class Aligned(NamedTuple):
    """A canonical volume and what is kept beside it."""

    canonical: Canonical
    kept: Kept


def prepare_aligned(
    path: str | Path,
    recipe: AlignedRecipe,
    *,
    mask_path: str | Path | None = None,
    orientation: str | None = None,
    reference: Reference | None = None,
) -> Aligned:
    """Gives the canonical volume of a raw scan, and what is kept beside it.

    With a `reference` of its session the scan is laid over that one, rigidly, and takes
    its brain and its way to the template.

    Raises InputRefusedError, one line that names the file.
    """
    scan = settled(read_scan(path, orientation=orientation))
    body = find_mask(scan.voxels, scan.spacing)
    check_body(path, body, scan.affine)
    head = mask_on_scan(body, scan)
    given = None
    if mask_path is not None:
        given = given_mask(scan, mask_path, orientation).voxels
    if reference is None:
        rough = None
        if needs_template(recipe, body.kind, given):
            rough = align_to_template(scan.voxels, scan.affine)
        near = head if rough is None else template_on_scan(scan, rough)
        flat, doubts = _flatten(scan, head & near, recipe)
        place = place_alone(path, flat, body.kind, recipe, given, rough)
    else:
        place = place_beside(scan, reference, given)
        flat, doubts = _flatten(scan, head & with_margin(scan, place.brain), recipe)
    voxels, inside = _resample(path, flat, place, recipe, body.kind)
    codes, scaling = SCALINGS[recipe.intensity](path, voxels, inside, recipe)
    measures = measure(
        scan.voxels,  # as it came, before any step changed its intensities
        scan.affine,
        place.brain,
        head,
        overlap=place.facts.get("overlap"),
        metric=place.facts.get("metric"),
        codes_clipped=_share_clipped(codes),
    )
    doubts += place.facts.pop("doubts", [])
    facts = {**measures, **place.facts, "mask": place.mask, "doubts": doubts}
    if place.mask == "head":  # no brain to judge
        facts |= {"brain_ml": None, "overlap": None}
    provenance = {
        **scan.provenance,
        **scaling,
        "mask": place.mask,
        "mask_ml": round(millilitres(place.brain, scan.affine), 1),
        "to_scan": place.to_scan.tolist(),
        "space": _space(recipe, reference),
        "recipe": recipe.hash,
    }
    planes = make_planes(voxels, inside, recipe.voxel_mm)
    kept = Kept(facts, place.brain, scan.affine, place.to_scan, planes)
    return Aligned(Canonical(codes, place.out_affine, provenance), kept)


def _space(recipe: AlignedRecipe, reference: Reference | None) -> str:
    """Names whose mm the canonical volume has."""
    if recipe.registration != "none":
        return "ICBM152"
    return "scan" if reference is None else "reference"


def settled(scan: Scan) -> Scan:
    """Gives a scan without the last bits of its affine, which twins do not share.

    A header's float32 must not decide where a climb ends.
    """
    return scan._replace(affine=np.round(scan.affine, AFFINE_DIGITS))


def _flatten(
    scan: Scan, inside: Bool[np.ndarray, "x y z"], recipe: AlignedRecipe
) -> tuple[Scan, list[str]]:
    """Gives the scan without its bias field; where there is no telling, a doubt.

    `inside`: the head near its brain. With a neck N4 would flatten what is of no use,
    at the cost of the brain.
    """
    if recipe.bias == "none":
        return scan, []
    try:
        corrected = correct_bias(scan.voxels, scan.spacing, inside)
    except MissingExtraError:
        raise
    except InputRefusedError as error:  # z-scored before, say
        return scan, [str(error)]
    return scan._replace(voxels=corrected.voxels), []


def _resample(
    path: str | Path, scan: Scan, place: Place, recipe: AlignedRecipe, kind: str
) -> tuple[Float32[np.ndarray, "i j k"], Bool[np.ndarray, "i j k"]]:
    """Gives the scan, unmasked, and the mask on the canonical grid, each in one go."""

    def through(values: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "i j k"]:
        return resample_through(
            values, scan.affine, place.to_scan, place.out_affine, recipe.shape
        )

    body = place.brain.astype(np.float32)
    weight = through(body)
    inside = weight > 0.5
    if not inside.any():
        raise InputRefusedError(
            f"{path}: wanted a brain in the field of view, got none"
        )
    if kind == "nonzero":
        # Beyond the mask lies nothing: its zeros must not darken the brain's edge.
        return through(scan.voxels * body) / np.where(inside, weight, 1), inside
    return through(scan.voxels), inside


def _codes(
    path: str | Path,
    voxels: Float32[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    recipe: AlignedRecipe,
) -> tuple[Codes, dict[str, float]]:
    limits = robust_limits(voxels, inside, recipe.clip)
    if not limits.high > limits.low:
        raise InputRefusedError(
            f"{path}: wanted contrast inside the mask, got the constant {limits.low:g}"
        )
    scaling = {"clip_low": limits.low, "clip_high": limits.high}
    return quantise(voxels, inside, limits), scaling


def _zscores(
    path: str | Path,
    voxels: Float32[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    recipe: AlignedRecipe,
) -> tuple[Codes, dict[str, float]]:
    values = voxels[inside]
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    if not deviation > 0:
        raise InputRefusedError(
            f"{path}: wanted contrast inside the mask, got the constant {mean:g}"
        )
    scored = np.where(inside, (voxels - mean) / deviation, 0).astype(np.float32)
    scaling = {"intensity_offset": float(mean), "intensity_scale": float(deviation)}
    return scored, scaling


SCALINGS = {"codes": _codes, "zscore_nonzero": _zscores}


def _share_clipped(codes: Codes) -> float | None:
    """Gives the share of the stored brain that was clipped; None of z-scores."""
    if codes.dtype != np.uint8:
        return None
    inside = codes[codes > OUTSIDE]
    return float(((inside == 1) | (inside == 255)).mean())
