"""Parts of a structure that hang together: which are kept."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

NEIGHBOURS = ndimage.generate_binary_structure(3, 3)
"""Voxels that share a face, an edge or a corner are of one part."""

Outlines = UInt8[np.ndarray, "x y z"] | Bool[np.ndarray, "x y z n"]
"""Class numbers, 0 outside; or masks of n structures, which may overlap."""


def clean(
    outlines: Outlines,
    affine: Float[np.ndarray, "4 4"],
    *,
    largest: bool = False,
    least_ml: float = 0.0,
) -> Outlines:
    """Gives outlines without the parts of a structure that are not to be kept.

    What is dropped becomes outside.

    Args:
        outlines: of all structures.
        affine: of their grid.
        largest: of every structure the largest part alone is kept.
        least_ml: parts under this volume are dropped.
    """
    if not largest and least_ml <= 0:
        return outlines
    least = least_ml * 1000 / abs(float(np.linalg.det(affine[:3, :3])))
    kept = outlines.copy()
    if outlines.ndim == 4:
        for number in range(outlines.shape[-1]):
            mask = kept[..., number]
            mask &= keep_parts(mask, largest=largest, least=least)
        return kept
    for number, box in enumerate(ndimage.find_objects(outlines), start=1):
        if box is not None:
            part, mask = kept[box], outlines[box] == number
            part[mask & ~keep_parts(mask, largest=largest, least=least)] = 0
    return kept


def keep_parts(
    mask: Bool[np.ndarray, "x y z"], *, largest: bool, least: float
) -> Bool[np.ndarray, "x y z"]:
    """Gives a mask's parts of at least so many voxels; or of these the largest."""
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure=NEIGHBOURS, output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    keep = sizes >= max(least, 1)
    if largest and keep.any():
        keep &= np.arange(len(sizes)) == sizes.argmax()
    return keep[parts]
