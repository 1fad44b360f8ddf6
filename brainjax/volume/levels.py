"""What registration sees: template and scan on grids from coarse to fine."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy import ndimage

from brainjax.errors import InputRefusedError
from brainjax.volume.itk import Image, straighten
from brainjax.volume.mask import largest_part
from brainjax.volume.scan import spacing_of
from brainjax.volume.space import grid_affine, resample, whole_grid
from brainjax.volume.starts import points_of
from brainjax.volume.template import load_template
from brainjax.volume.through import resample_through

LEVELS_MM = (8.0, 4.0, 2.0)
BAND_MM = (8.0, 3.0, 3.0)
"""How far round the template's brain it counts that there is no brain, at each level.

Far at first: it tells a brain from a head. Near at last: how much fluid lies round a
brain, which T2w shows as bright as that in it, must not change its size.
"""

CLIP = (0.5, 98.5)
"""Percentiles of the brain, with the band round it, that a scan is cut to."""

LEAST_SEEN = 100

HEAD_MM = 140.0
"""A head is centred by so much below its top."""


class Still(NamedTuple):
    """What is laid on a scan at one level: an image, and where of it counts."""

    image: Image
    inside: Image


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
    near = shrunk(Image((far <= band_mm).astype(np.float32), affine), mm)
    tissue = shrunk(Image(brain + grey + 2 * white, affine), mm)
    return Still(tissue, Image(near.voxels > 0.5, near.affine))


def pyramid(voxels: np.ndarray, affine: np.ndarray) -> list[Image]:
    """Gives the scan at the levels, coarse first."""
    if not float(voxels.max()) > float(voxels.min()):
        raise InputRefusedError(
            f"align: wanted an image, got the constant {float(voxels.max()):g}"
        )
    images = [Image(voxels, affine)]
    for mm in LEVELS_MM[::-1]:
        images.append(shrunk(images[-1], mm))
    return images[:0:-1]


def shrunk(image: Image, mm: float) -> Image:
    """Gives an image with voxels of `mm`, anti-aliased."""
    spacing = spacing_of(image.affine)
    if np.allclose(spacing, mm):
        return image
    grid = whole_grid(image.voxels.shape, spacing, mm)
    return Image(resample(image.voxels, grid), grid_affine(image.affine, grid))


def unsheared(image: Image) -> Image:
    """Gives a sheared image on a grid without shear that holds all of it.

    SimpleITK has no place for the shear of the image that stays.
    """
    if straighten(image)[0] is None:
        return image
    spacing = np.array(spacing_of(image.affine))
    left, _, right = np.linalg.svd(image.affine[:3, :3] / spacing)
    plain = np.eye(4)
    plain[:3, :3] = (left @ right) * spacing
    ends = [(0, n - 1) for n in image.voxels.shape]
    corners = np.stack(np.meshgrid(*ends)).reshape(3, -1)
    at = np.linalg.solve(plain[:3, :3], image.affine[:3, :3] @ corners)
    plain[:3, 3] = image.affine[:3, 3] + plain[:3, :3] @ at.min(1)
    x, y, z = (int(n) for n in np.ceil(np.ptp(at, axis=1) - 1e-6) + 1)
    voxels = image.voxels.astype(np.float32)
    outside = float(voxels.min())
    laid = resample_through(
        voxels, image.affine, np.eye(4), plain, (x, y, z), outside=outside
    )
    return Image(laid, plain)


def grown(body: Image, mm: float) -> Image:
    """Gives a mask and what lies within `mm` of it, one voxel at least."""
    spacing = spacing_of(body.affine)
    far = ndimage.distance_transform_edt(~body.voxels.astype(bool), sampling=spacing)
    return body._replace(voxels=np.asarray(far) <= max(mm, *spacing))


def clipped(image: Image, still: Still, matrix: np.ndarray | None) -> Image:
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


def find_head(voxels: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """Gives roughly what is not air: the largest part above a share of the range."""
    low, high = np.percentile(voxels, (1, 99))
    above = voxels > low + 0.15 * (high - low)
    return largest_part(above) if above.any() else ~above


def head_centre(image: Image) -> Float64[np.ndarray, " 3"]:
    """Gives the middle of the head's upper part, or of a stripped brain."""
    points = points_of(Image(find_head(image.voxels), image.affine))
    top = np.percentile(points[2], 99.5)
    return np.median(points[:, points[2] > top - HEAD_MM], axis=1)
