"""Where a head lies beside the MNI brain: an affine, by Gauss-Newton.

Template to head, on the difference of intensities inside the template's brain, from
coarse to fine (Friston et al. 1995). The template is the ICBM152 that nilearn ships.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import (
    binary_fill_holes,
    binary_opening,
    gaussian_filter,
    map_coordinates,
)

from brainjax.errors import MissingExtraError

Volume = Float[np.ndarray, "x y z"]
Points = Float[np.ndarray, "3 *n"]

BOX_MM = ((-80.0, 80.0), (-112.0, 80.0), (-76.0, 88.0))
"""The template's brain with a margin, MNI mm along x, y, z."""

CENTRE_MM = np.array([0.0, -17.0, 20.0])
"""What an affine turns about."""

TOP_MM = np.array([96.0, 96.0, 183.0])
"""Where the top of the brain lies in a canonical head of 192 mm, from its corner."""

LEVELS = ((8, 3, 12), (5, 2, 12), (3, 1, 10), (2, 1, 10))
"""Of the affine: blur in mm, every which point, rounds."""


class Template(NamedTuple):
    """The ICBM152 brain: points of a grid, T1, prior of each tissue, inside or not."""

    points: Points
    t1: Volume
    priors: Float[np.ndarray, "3 x y z"]
    inside: Bool[np.ndarray, "x y z"]


def load_template(mm: float) -> Template:
    """Reads the template on a grid of `mm` voxels; raises where nilearn is absent."""
    try:
        from nilearn import datasets
    except ImportError:
        raise MissingExtraError("nilearn", "phantom") from None
    images: list[Any] = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    axes = [np.arange(low + mm / 2, high, mm) for low, high in BOX_MM]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    at = points - images[0].affine[:3, 3].reshape(3, 1, 1, 1)
    t1, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    brain = binary_fill_holes(binary_opening(t1 > 0, iterations=2))
    maps = [t1, grey, white, np.asarray(brain, np.float32)]
    t1, grey, white, brain = (
        map_coordinates(gaussian_filter(m, 0.45 * mm), at, order=1) for m in maps
    )
    share = brain / np.maximum(grey + white, 1)
    fluid = np.clip(brain - share * (grey + white), 0, 1)
    # Blurred: an affine does not bring every gyrus to its place.
    blur = 3.0 / mm
    around = np.maximum(gaussian_filter(brain, blur), 1e-3)
    priors = [gaussian_filter(m, blur) for m in (share * grey, share * white, fluid)]
    return Template(points, t1, np.stack(priors) / around, brain > 0.5)


def align(volume: Volume, template: Template, spacing: float) -> np.ndarray:
    """Gives the affine [3, 4] under which gain x head + offset is most like the T1."""
    scale = 0.95
    affine = np.c_[
        scale * np.eye(3), TOP_MM + scale * (CENTRE_MM - np.array([0, -17, 84]))
    ]
    first = affine.copy()
    voxel = template.points[0, 1, 0, 0] - template.points[0, 0, 0, 0]
    for mm, step, rounds in LEVELS:
        part = (slice(None, None, step),) * 3
        used = template.inside[part]
        points = template.points[(slice(None), *part)][:, used]
        wanted = gaussian_filter(template.t1, mm / voxel)[part][used]
        blurred = gaussian_filter(volume, mm / spacing)
        slopes = slopes_of(blurred) / spacing
        for _ in range(rounds):
            affine = _descend(affine, first, points, wanted, blurred, slopes, spacing)
    return affine


def _descend(affine, first, points, wanted, volume, slopes, spacing) -> np.ndarray:
    """Takes one Gauss-Newton step; a weak prior keeps the shape near the first."""
    at = move(affine, points)
    found = sample(volume, at, spacing).astype(np.float64)
    slope = np.stack([sample(s, at, spacing) for s in slopes])
    ones = np.ones_like(found)
    gain, offset = np.linalg.lstsq(np.c_[found, ones], wanted, rcond=None)[0]
    # Entries in units of 50 mm, so that all twelve are of one size.
    units = np.array([50.0, 50.0, 50.0, 1.0])
    basis = np.concatenate([(points - CENTRE_MM[:, None]) / 50, ones[None]])
    columns = (gain * slope[:, None] * basis[None]).reshape(12, -1)
    columns = np.concatenate([columns, found[None], ones[None]])
    curvature = columns @ columns.T
    stiff = 0.002 * np.trace(curvature[:12, :12]) / 12
    held = stiff * np.array([1.0, 1, 1, 0] * 3 + [0, 0])
    pull = held * np.r_[((affine - first) * units).ravel(), 0, 0]
    right = columns @ (wanted - gain * found - offset) - pull
    curvature += np.diag(held) + 1e-3 * np.diag(np.diag(curvature))
    return affine + np.linalg.solve(curvature, right)[:12].reshape(3, 4) / units


def slopes_of(volume: Volume) -> np.ndarray:
    """Gives the change a voxel along x, y, z, stacked."""
    return np.stack(list(np.gradient(volume)))


def move(affine: np.ndarray, points: Points) -> Points:
    return affine[:, :3] @ (points - CENTRE_MM[:, None]) + affine[:, 3:]


def sample(volume: Volume, at_mm: Points, spacing: float) -> np.ndarray:
    return map_coordinates(
        volume, at_mm / spacing - 0.5, order=1, output=np.float32, mode="nearest"
    )
