"""Where the brain or the head is: given, the non-zero voxels, or an estimate."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32
from scipy import ndimage

from brainjax.volume.space import Grid, compose, resample, whole_grid

KINDS = ("auto", "nonzero", "head")

STRIPPED_BORDER = 0.995
"""Share of the six border faces that is background in a skull-stripped scan."""

STRIPPED_MAX_ML = 2500.0
"""A brain is smaller than this; a head with its neck is larger."""

RINGING_SHARE = 0.05
"""Below the background lie, by ringing, fewer voxels than this share of those above."""

HEAD_GRID_MM = 3.0
HEAD_THRESHOLD = 0.1
"""Share of the robust range above which a voxel is tissue (BET; Smith 2002)."""


class Mask(NamedTuple):
    """A mask, the kind it is ("nonzero", "head", "given"), and the grid it is on."""

    voxels: Bool[np.ndarray, "x y z"]
    kind: str
    grid: Grid | None

    def on(self, grid: Grid, inside: float = 0.5) -> Bool[np.ndarray, "i j k"]:
        """Gives the mask on another grid of the scan."""
        if self.grid is not None:
            grid = compose(grid, self.grid)
        return resample(self.voxels.astype(np.float32), grid) > inside


def find_mask(
    voxels: Float32[np.ndarray, "x y z"], spacing: tuple, *, kind: str = "auto"
) -> Mask:
    """Gives the mask of a RAS+ scan.

    "nonzero" takes a skull-stripped scan at its word; "head" estimates the head from
    air by threshold; "auto" tells the two apart: in a stripped scan nothing touches
    the border, and what is there is of a brain's volume.
    """
    if kind != "head":
        stripped = foreground(voxels)
        if kind == "nonzero" or looks_stripped(voxels, stripped, spacing):
            return Mask(stripped, "nonzero", None)
    grid = whole_grid(voxels.shape, spacing, HEAD_GRID_MM)
    return Mask(_head(resample(voxels, grid)), "head", grid)


def looks_stripped(
    voxels: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    spacing: tuple,
) -> bool:
    """Says whether a scan was skull-stripped before it came here."""
    border = _on_faces(voxels)
    empty = (border == _background(voxels)).mean() >= STRIPPED_BORDER
    volume = np.count_nonzero(mask) * np.prod(spacing) / 1000
    return bool(empty) and bool(volume < STRIPPED_MAX_ML)


def foreground(voxels: Float32[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Gives the largest body above the background value, holes filled.

    Resampling leaves small values of either sign round a stripped brain: what is
    within half a percent of the range is background too. Few voxels far below the
    background are such ringing; many are the darker half of a z-scored brain.
    """
    background = _background(voxels)
    candidates = voxels[voxels > background]
    if not candidates.size:
        return np.zeros(voxels.shape, bool)
    top = np.percentile(candidates, 99)
    margin = 0.005 * (top - background)
    above, below = voxels > background + margin, voxels < background - margin
    if np.count_nonzero(below) >= RINGING_SHARE * np.count_nonzero(above):
        above |= below
    return whole_body(above)


def millilitres(
    mask: Bool[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"]
) -> float:
    """Gives the volume of a mask on a grid whose affine is in mm."""
    return np.count_nonzero(mask) * voxel_ml(affine)


def voxel_ml(affine: Float64[np.ndarray, "4 4"]) -> float:
    """Gives a voxel's volume; of a sheared grid too.

    Rounded: a header's float32 must not decide the last digits.
    """
    return round(abs(float(np.linalg.det(affine[:3, :3]))), 6) / 1000


def _head(voxels: Float32[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    low, high = np.percentile(voxels[voxels != _background(voxels)], (2, 98))
    tissue = voxels > low + HEAD_THRESHOLD * (high - low)
    tissue = ndimage.binary_opening(tissue)
    # The skull and the sinuses are dark: close the scalp over them.
    padded = np.pad(largest_part(tissue), 4)
    closed = ndimage.binary_closing(padded, iterations=3)[4:-4, 4:-4, 4:-4]
    return whole_body(closed)


def _background(voxels: Float32[np.ndarray, "x y z"]) -> float:
    values, counts = np.unique(_on_faces(voxels), return_counts=True)
    return float(values[counts.argmax()])


def _on_faces(voxels: np.ndarray) -> np.ndarray:
    faces = [voxels.take(side, axis).ravel() for axis in range(3) for side in (0, -1)]
    return np.concatenate(faces)


def whole_body(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The largest connected part, without holes; the neck's cut closes nothing."""
    box = _bounding_box(mask)
    if box is None:
        return mask
    inner = np.pad(largest_part(mask[box]), 1)
    outside = _parts(~inner)
    filled = np.zeros_like(mask)
    filled[box] = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def largest_part(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Gives the largest face-connected part of a mask."""
    parts = _parts(mask)
    if parts.max() < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _parts(mask: Bool[np.ndarray, "x y z"]) -> Int32[np.ndarray, "x y z"]:
    """Numbers the face-connected parts from 1; 0 is not in the mask."""
    parts = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=parts)
    return parts


def _bounding_box(mask: Bool[np.ndarray, "x y z"]) -> tuple[slice, ...] | None:
    if not mask.any():
        return None
    slices = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        used = np.flatnonzero(mask.any(axis=others))
        slices.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(slices)
