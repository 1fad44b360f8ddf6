"""The adult ICBM152 brain that nilearn ships, on a grid of any spacing."""

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.space import Grid, GridAxis, resample

BOX_MM = ((-90.0, 90.0), (-126.0, 90.0), (-72.0, 108.0))
"""First and last voxel centre along x, y, z: 91 x 109 x 91 voxels at 2 mm."""

CENTRE_MM = np.array([0.0, -18.0, 8.0])
"""The middle of the brain; what a head is turned about."""


class Template(NamedTuple):
    """The ICBM152 2009 brain (nonlinear, symmetric), skull-stripped; RAS+ mm.

    t1: 0..1, 0 outside the brain.
    grey, white: share of each voxel, 0..1; the rest of the brain is fluid.
    brain: ventricles included; the stem ends at the lower face.
    affine: voxel indices to MNI mm.
    """

    t1: Float32[np.ndarray, "x y z"]
    grey: Float32[np.ndarray, "x y z"]
    white: Float32[np.ndarray, "x y z"]
    brain: Bool[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]


def template_grid(
    mm: float,
) -> tuple[tuple[int, int, int], Float64[np.ndarray, "4 4"]]:
    """Gives shape and affine of the template's box with voxels of `mm`."""
    x, y, z = (int(np.floor((high - low) / mm + 1e-6)) + 1 for low, high in BOX_MM)
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = [low for low, _ in BOX_MM]
    return (x, y, z), affine


def load_template(mm: float = 1.0) -> Template:
    """Gives the template with voxels of `mm`; kept, and so not to be written into.

    Raises MissingExtraError where nilearn is absent, InputRefusedError for a spacing
    outside 0.5 to 16 mm.
    """
    if not 0.5 <= mm <= 16:
        raise InputRefusedError(f"template: wanted 0.5 to 16 mm, got {mm:g}")
    return _load(float(mm))


@functools.lru_cache(maxsize=4)
def _load(mm: float) -> Template:
    maps, affine = _read()
    shape, out_affine = template_grid(mm)
    starts = np.linalg.inv(affine) @ out_affine[:, 3]
    axes = [
        GridAxis(float(start), mm, n)
        for start, n in zip(starts[:3], shape, strict=True)
    ]
    maps = [resample(values, Grid(*axes)) for values in maps]
    t1, grey, white, brain = maps
    kept = Template(t1, grey, white, brain >= 0.5, out_affine)
    for values in kept:
        values.flags.writeable = False
    return kept


@functools.lru_cache(maxsize=1)
def _read() -> tuple[list[np.ndarray], np.ndarray]:
    """Gives T1, grey, white matter and brain at 1 mm as nilearn has them."""
    try:
        from nilearn import datasets
    except ImportError:
        raise MissingExtraError("nilearn", "scanner") from None
    images: list[Any] = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    t1, grey, white = (np.asarray(image.dataobj, np.float32) for image in images)
    brain = ndimage.binary_opening(t1 > 0, iterations=2)
    brain = np.asarray(ndimage.binary_fill_holes(brain), np.float32)
    share = brain / np.maximum(grey + white, 1)
    affine = np.asarray(images[0].affine, np.float64)
    return [t1 * brain, grey * share, white * share, brain], affine
