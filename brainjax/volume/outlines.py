"""Outlines on the grid of a file, from class probabilities on a coarser one.

Probabilities are interpolated and then decided on, so that borders run between the
voxels of the network as smoothly as it knew them; nearest labels would show its grid.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from brainjax.volume.native import FileGrid, to_file_grid
from brainjax.volume.through import EXACT

HALF = 0.5

Affine = Float64[np.ndarray, "4 4"]
Box = tuple[slice, slice, slice]


def labels_on(
    probabilities: Float32[np.ndarray, "c x y z"],
    affine: Affine,
    to_scan: Affine,
    grid: FileGrid,
) -> UInt8[np.ndarray, "i j k"]:
    """Gives the likeliest class of every voxel of a file's grid.

    Only boxes in which a class can win are looked at; the answer is the same.

    Args:
        probabilities: of c classes, the first of which is outside; they add up to 1.
        affine, to_scan: see `native.bring_back`.
        grid: of the file.
    """
    labels = np.zeros(grid.shape, np.uint8)
    # Interpolation never lifts a class above where it nowhere reaches its fair share.
    somewhere = probabilities.argmax(axis=0) > 0
    whole = box_on(somewhere, affine, to_scan, grid)
    if whole is None:
        return labels
    best = _laid(probabilities[0], affine, to_scan, grid, whole, outside=1.0)
    found = labels[whole]
    fair = 1 / len(probabilities) - 1e-6
    for number in range(1, len(probabilities)):
        box = box_on(probabilities[number] >= fair, affine, to_scan, grid, whole)
        if box is None:
            continue
        values = _laid(probabilities[number], affine, to_scan, grid, box)
        inner = tuple(
            slice(b.start - w.start, b.stop - w.start)
            for b, w in zip(box, whole, strict=True)
        )
        better = values > best[inner]
        found[inner][better] = number
        best[inner] = np.maximum(best[inner], values)
    return labels


def masks_on(
    probabilities: Float32[np.ndarray, "n x y z"],
    affine: Affine,
    to_scan: Affine,
    grid: FileGrid,
) -> Bool[np.ndarray, "i j k n"]:
    """Gives where each of n structures, which may overlap, is likelier than not."""
    masks = np.zeros((*grid.shape, len(probabilities)), bool)
    for number, values in enumerate(probabilities):
        box = box_on(values > HALF, affine, to_scan, grid)
        if box is not None:
            laid = _laid(values, affine, to_scan, grid, box)
            masks[(*box, number)] = laid > HALF
    return masks


def box_on(
    seen: Bool[np.ndarray, "x y z"],
    affine: Affine,
    to_scan: Affine,
    grid: FileGrid,
    within: Box | None = None,
) -> Box | None:
    """Gives the box of a file's grid that holds all that interpolation reaches.

    None where nothing is seen, or nothing of it lies on the grid (or `within` it).
    """
    if not seen.any():
        return None
    push = np.linalg.inv(grid.affine) @ to_scan @ affine
    # A kernel reaches one voxel of the coarser of the two grids.
    pull = np.linalg.inv(push)
    reach = np.maximum(np.abs(pull[:3, :3]).sum(axis=1), 1) + EXACT
    ends = []
    for axis, extra in enumerate(reach):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(seen.any(axis=others))
        ends.append((used[0] - extra, used[-1] + extra))
    corners = np.array(list(itertools.product(*ends)))
    at = corners @ push[:3, :3].T + push[:3, 3]
    limits = within or tuple(slice(0, n) for n in grid.shape)
    low = np.maximum(np.floor(at.min(0)).astype(int), [s.start for s in limits])
    high = np.minimum(np.ceil(at.max(0)).astype(int) + 1, [s.stop for s in limits])
    if (high <= low).any():
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _laid(
    values: Float32[np.ndarray, "x y z"],
    affine: Affine,
    to_scan: Affine,
    grid: FileGrid,
    box: Box,
    *,
    outside: float = 0.0,
) -> Float32[np.ndarray, "i j k"]:
    """Interpolates values on a box of the grid."""
    moved = grid.affine.copy()
    starts = np.array([side.start for side in box])
    moved[:3, 3] = grid.affine[:3, :3] @ starts + grid.affine[:3, 3]
    x, y, z = (side.stop - side.start for side in box)
    part = FileGrid((x, y, z), moved, None)
    return to_file_grid(values, affine, to_scan, part, order="linear", outside=outside)
