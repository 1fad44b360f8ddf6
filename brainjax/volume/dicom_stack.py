"""The planes of a series as one array: sorted, checked, stacked, with an affine."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped

from brainjax.errors import InputRefusedError
from brainjax.volume.dicom_groups import height
from brainjax.volume.dicom_header import Plane
from brainjax.volume.dicom_index import MIN_SLICES, Series

MAX_GAP = 2


MAX_FILLED = 0.1
"""At most so many missing slices in a row, and so many of all, are filled in."""


_STEP_TOLERANCE = 0.05


_SAME_PLACE_MM = 0.01


class Places(NamedTuple):
    """Where sorted planes lie: LPS mm of the first, the step, the index of each."""

    first: Float64[np.ndarray, "3"]
    step: Float64[np.ndarray, "3"]
    indices: Int[np.ndarray, "k"]


def drop_copies(
    name: str | Path, series: Series, pixels: list[np.ndarray]
) -> tuple[list[Plane], list[np.ndarray], int]:
    """Drops planes that lie where another lies and show the same."""
    planes, kept, copies = [], [], 0
    for plane, values in zip(series.planes, pixels, strict=True):
        if planes and _distance(series, planes[-1], plane) < _SAME_PLACE_MM:
            if not np.array_equal(kept[-1], values):
                raise InputRefusedError(
                    f"{name}: wanted one image at a place, got two that differ: "
                    f"{planes[-1].file} and {plane.file}"
                )
            copies += 1
            continue
        planes.append(plane)
        kept.append(values)
    return planes, kept, copies


def _distance(series: Series, one: Plane, other: Plane) -> float:
    below = height(series.orientation, one.position)
    return abs(height(series.orientation, other.position) - below)


def find_places(name: str | Path, series: Series, planes: list[Plane]) -> Places:
    """Gives the even grid that the planes lie on; refuses those that lie on none."""
    if len(planes) < MIN_SLICES:
        raise InputRefusedError(
            f"{name}: wanted at least {MIN_SLICES} slices, got {len(planes)}"
        )
    heights = np.array([height(series.orientation, p.position) for p in planes])
    steps = np.diff(heights)
    usual = float(np.median(steps))
    counts = np.maximum(np.round(steps / usual), 1).astype(int)
    uneven = np.abs(steps - counts * usual) > max(_STEP_TOLERANCE * usual, 0.02)
    if uneven.any():
        at = int(np.argmax(uneven))
        raise InputRefusedError(
            f"{name}: wanted slices {usual:.4g} mm apart, got {steps[at]:.4g} mm "
            f"between {heights[at]:.4g} and {heights[at + 1]:.4g} mm"
        )
    indices = np.concatenate([[0], np.cumsum(counts)])
    _check_gaps(name, series, counts, heights)
    positions = np.array([plane.position for plane in planes])
    step = (positions[-1] - positions[0]) / indices[-1]
    away = np.abs(positions - positions[0] - indices[:, None] * step).max()
    if away > max(_STEP_TOLERANCE * usual, 0.1):
        raise InputRefusedError(
            f"{name}: wanted slices along one line, got one {away:.2g} mm beside it"
        )
    return Places(positions[0], step, indices)


def _check_gaps(
    name: str | Path, series: Series, counts: np.ndarray, heights: np.ndarray
) -> None:
    missing = int((counts - 1).sum())
    if not missing:
        return
    if series.damaged:
        raise InputRefusedError(
            f"{series.damaged[0]}: wanted a readable slice of {name}, got a damaged "
            "file"
        )
    total = int(counts.sum()) + 1
    if counts.max() - 1 <= MAX_GAP and missing <= MAX_FILLED * total:
        return
    gaps = [
        f"{low:.4g} and {high:.4g}"
        for low, high, count in zip(heights, heights[1:], counts, strict=False)
        if count > 1
    ]
    shown = ", ".join(gaps[:3]) + (", ..." if len(gaps) > 3 else "")
    raise InputRefusedError(
        f"{name}: wanted {total} slices, got {total - missing}: missing between "
        f"{shown} mm"
    )


def stack(pixels: list[np.ndarray], places: Places) -> Shaped[np.ndarray, "i j k"]:
    """Gives the planes as one array, missing ones filled linearly."""
    indices = places.indices.tolist()
    shape = (*pixels[0].shape, indices[-1] + 1)
    stored = np.empty(shape, np.result_type(*pixels), order="F")
    for index, plane in zip(indices, pixels, strict=True):
        stored[:, :, index] = plane
    for before, after in pairwise(indices):
        for index in range(before + 1, after):
            share = (index - before) / (after - before)
            low, high = (stored[:, :, i].astype(np.float64) for i in (before, after))
            filled = low + share * (high - low)
            whole = np.issubdtype(stored.dtype, np.integer)
            stored[:, :, index] = np.round(filled) if whole else filled
    return stored


def affine_of(series: Series, places: Places) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of [column, row, slice] in RAS mm; DICOM's own axes are LPS."""
    _, _, between_rows, between_columns = series.grid
    affine = np.eye(4)
    across, down = np.reshape(series.orientation, (2, 3))
    affine[:3, 0] = across / np.linalg.norm(across) * between_columns
    affine[:3, 1] = down / np.linalg.norm(down) * between_rows
    affine[:3, 2], affine[:3, 3] = places.step, places.first
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def shear_degrees(series: Series, places: Places) -> float:
    """Gives the angle between the slice step and the normal of the slices, degrees."""
    normal = np.cross(series.orientation[:3], series.orientation[3:])
    cosine = float(normal @ places.step) / float(np.linalg.norm(places.step))
    return round(float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))), 2)
