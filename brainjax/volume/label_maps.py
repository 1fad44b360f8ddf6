"""Label maps: raw ids of any grid, validated, and laid on a canonical volume's grid."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8, UInt16

from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Codes
from brainjax.volume.intensity import OUTSIDE
from brainjax.volume.native import bring_back
from brainjax.volume.scan import read_scan

MAX_ID = 65535
MAX_IDS = 1000
"""The finest atlases have some hundred structures; a scan has thousands of values."""

LOOKED_AT = 100_000
"""Labelled voxels that are looked at to tell whether a map lies over its scan."""


class LabelMap(NamedTuple):
    """A label map in RAS+.

    Attributes:
        ids: 0 is background.
        affine: voxel indices to mm.
        path: its file.
    """

    ids: UInt16[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    path: str


class Laid(NamedTuple):
    """A label map on the grid of a canonical volume.

    Attributes:
        ids: uint8 where the whole map has none above 255.
        outside: share of the labelled voxels that lie beyond the grid.
    """

    ids: UInt8[np.ndarray, "x y z"] | UInt16[np.ndarray, "x y z"]
    outside: float


def read_label_map(path: str | Path, *, orientation: str | None = None) -> LabelMap:
    """Gives the raw ids of a file, of any type that holds whole numbers.

    `orientation`: of a file whose header states none. Raises InputRefusedError, one
    line that names the file, for what `read_scan` refuses (an empty map among it), for
    numbers that are not whole, below 0 or above 65535, and for over 1000 of them.
    """
    scan = read_scan(path, orientation=orientation)
    values = scan.voxels
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > MAX_ID:
        raise InputRefusedError(
            f"{path}: wanted ids of 0 to {MAX_ID}, got {low:g} to {high:g}"
        )
    ids = values.astype(np.uint16)
    uneven = ids != values
    if uneven.any():
        raise InputRefusedError(
            f"{path}: wanted whole numbers, as of a label map, got "
            f"{float(values[uneven][0]):g}"
        )
    count = int(np.count_nonzero(np.bincount(ids.ravel())))
    if count > MAX_IDS:
        raise InputRefusedError(
            f"{path}: wanted at most {MAX_IDS} ids, as of a label map, got {count}"
        )
    return LabelMap(ids, scan.affine, str(path))


def lay_over(
    labels: LabelMap,
    codes: Codes,
    affine: Float64[np.ndarray, "4 4"],
    to_scan: Float64[np.ndarray, "4 4"],
) -> Laid:
    """Gives a label map on the grid of the canonical volume of its scan.

    Resampled once, nearest; voxels beyond the map are background.

    Args:
        labels: in the mm of the scan, on whatever grid.
        codes, affine: the canonical volume and its affine.
        to_scan: mm of the canonical volume to mm of the scan.

    Raises:
      InputRefusedError: no label lies inside the volume's mask, as of another
        patient's or another space's map.
    """
    away = _beyond(labels, codes, affine, to_scan)
    laid = bring_back(
        labels.ids, labels.affine, np.linalg.inv(to_scan), affine, codes.shape
    )
    kind = np.uint8 if labels.ids.max() <= 255 else np.uint16
    return Laid(laid.astype(kind), away)


def _beyond(
    labels: LabelMap,
    codes: Codes,
    affine: Float64[np.ndarray, "4 4"],
    to_scan: Float64[np.ndarray, "4 4"],
) -> float:
    """Gives the share of labels beyond the grid; refuses a map that lies elsewhere."""
    places = np.flatnonzero(labels.ids)
    places = places[:: -(-len(places) // LOOKED_AT)]
    at = np.stack([*np.unravel_index(places, labels.ids.shape), np.ones(len(places))])
    push = np.linalg.inv(affine) @ np.linalg.inv(to_scan) @ labels.affine
    x, y, z = np.floor((push @ at)[:3] + 0.5).astype(int)
    within = np.ones(len(places), bool)
    for indices, size in zip((x, y, z), codes.shape, strict=True):
        within &= (indices >= 0) & (indices < size)
    if not (codes[x[within], y[within], z[within]] != OUTSIDE).any():
        raise InputRefusedError(
            f"{labels.path}: wanted labels over its scan, got none inside the scan's "
            f"mask and {np.mean(~within):.0%} beyond its field of view: is it of "
            "another scan, or space?"
        )
    return round(float(np.mean(~within)), 4)
