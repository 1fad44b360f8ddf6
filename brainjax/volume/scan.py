"""A raw scan, validated and in RAS+, with where it came from."""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from brainjax.errors import InputRefusedError
from brainjax.volume.affines import header_affine, is_unstated, unstated_affine
from brainjax.volume.dicom import is_dicom, read_series
from brainjax.volume.nifti import NiftiFile, read_nifti

SPACING_MM = (0.2, 10.0)
EXTENT_MM = (60.0, 600.0)
MIN_VOXELS = 8


class _Stored(NamedTuple):
    """A volume as it is stored, and what is known of the file or series."""

    voxels: np.ndarray
    affine: np.ndarray
    slope: float
    intercept: float
    facts: dict


class Scan(NamedTuple):
    """A volume in RAS+ (or as stored, see `read_as_stored`) and its provenance.

    `affine` maps voxel indices to mm; an oblique scan keeps its tilt. `spacing` is in
    mm along x, y, z. `provenance` has source, sha256, original_shape,
    original_spacing, orientation (of the stored array, as "LAS"), dtype, in RAS+
    tilt_degrees and, of a DICOM series, dicom: the facts of `dicom.DicomVolume`.
    """

    voxels: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    spacing: tuple[float, float, float]
    provenance: dict


def read_scan(path: str | Path, *, orientation: str | None = None) -> Scan:
    """Gives the validated scan of a file or series, axes and directions turned to RAS+.

    `path` is a NIfTI file, or a DICOM series by a name that `dicom.read_series` takes.

    Axes are turned by the affine: permuted and flipped, never interpolated, so that
    all 48 ways of storing a scan give the same array. `orientation` (three letters,
    as "RAS": where the array axes point) serves files whose header gives none, and
    only those. Raises InputRefusedError, one line that names the file, for anything
    that is not one finite 3D volume in a plausible place.
    """
    if is_dicom(path):
        stored = _from_series(path)
    else:
        file = read_nifti(path)
        voxels = _single_volume(path, file.stored)
        affine = header_affine(path, file.header, voxels.shape, orientation)
        stored = _from_nifti(file, voxels, affine)
    _check_geometry(path, stored.voxels.shape, stored.affine)
    turn = nib.io_orientation(stored.affine)
    turned = nib.apply_orientation(stored.voxels, turn)
    flips = nib.orientations.inv_ornt_aff(turn, stored.voxels.shape)
    canonical = stored.affine @ flips
    voxels = _scaled(np.ascontiguousarray(turned), stored)
    _check_values(path, voxels)
    letters = "".join(nib.orientations.ornt2axcodes(turn))
    provenance = _provenance(path, stored, letters)
    provenance["tilt_degrees"] = tilt_degrees(canonical)
    return Scan(voxels, canonical, spacing_of(canonical), provenance)


def read_as_stored(path: str | Path, *, orientation: str | None = None) -> Scan:
    """Gives the validated scan of a file or series, its array as it is stored.

    For recipes that look at the array alone. A header that states no orientation is
    taken too, unless `orientation` does: the affine is then of the voxel sizes in it,
    1 mm where there are none, and the provenance's orientation is "unstated". Raises
    InputRefusedError as `read_scan` does otherwise.
    """
    if is_dicom(path):
        series = _from_series(path)
        _check_geometry(path, series.voxels.shape, series.affine)
        return _as_stored(path, series, "".join(nib.aff2axcodes(series.affine)))
    file = read_nifti(path)
    stored = _single_volume(path, file.stored)
    if is_unstated(file.header) and orientation is None:
        _check_size(path, stored.shape)
        affine = unstated_affine(file.header, stored.shape)
        letters = "unstated"
    else:
        affine = header_affine(path, file.header, stored.shape, orientation)
        _check_geometry(path, stored.shape, affine)
        letters = "".join(nib.aff2axcodes(affine))
    return _as_stored(path, _from_nifti(file, stored, affine), letters)


def _as_stored(path: str | Path, stored: _Stored, letters: str) -> Scan:
    voxels = _scaled(stored.voxels, stored)
    _check_values(path, voxels)
    provenance = _provenance(path, stored, letters)
    return Scan(voxels, stored.affine, spacing_of(stored.affine), provenance)


def _from_nifti(file: NiftiFile, voxels: np.ndarray, affine: np.ndarray) -> _Stored:
    facts = {
        "sha256": file.sha256,
        "original_shape": [int(n) for n in file.stored.shape],
        "dtype": file.header.get_data_dtype().name,
    }
    return _Stored(voxels, affine, file.slope, file.intercept, facts)


def _from_series(path: str | Path) -> _Stored:
    series = read_series(path)
    facts = {
        "sha256": series.sha256,
        "original_shape": list(series.stored.shape),
        "dtype": series.stored.dtype.name,
        "dicom": series.facts,
    }
    return _Stored(series.stored, series.affine, 1.0, 0.0, facts)


def _provenance(path: str | Path, stored: _Stored, letters: str) -> dict:
    """Gives the source, the hash of its content, and how it was stored."""
    return {
        "source": str(path),
        "sha256": stored.facts["sha256"],
        "original_shape": stored.facts["original_shape"],
        "original_spacing": list(spacing_of(stored.affine)),
        "orientation": letters,
        **stored.facts,
    }


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Gives the voxel spacing in mm along the three array axes.

    Rounded to 0.1 micrometre: a header's float32 rounding must not decide anything.
    """
    x, y, z = np.round(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)), 4).tolist()
    return x, y, z


def tilt_degrees(affine: Float[np.ndarray, "4 4"]) -> float:
    """Gives the largest angle between a RAS+ array axis and its anatomical axis."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.clip(np.diag(directions).min(), -1.0, 1.0)
    return round(float(np.degrees(np.arccos(cosine))), 2)


def _single_volume(
    path: str | Path, stored: Shaped[np.ndarray, "..."]
) -> Shaped[np.ndarray, "x y z"]:
    shape = stored.shape
    if len(shape) > 3 and all(n == 1 for n in shape[3:]):
        return stored.reshape(shape[:3], order="F")
    if len(shape) == 3:
        return stored
    wanted = "wanted one 3D volume"
    if len(shape) > 3:
        frames = int(np.prod(shape[3:]))
        raise InputRefusedError(f"{path}: {wanted}, got {frames} frames {shape}")
    raise InputRefusedError(f"{path}: {wanted}, got {len(shape)}D {shape}")


def _check_geometry(path: str | Path, shape: tuple, affine: np.ndarray) -> None:
    columns = affine[:3, :3]
    norms = np.linalg.norm(columns, axis=0)
    volume = 0.0
    if np.isfinite(affine).all() and norms.all():
        volume = abs(float(np.linalg.det(columns / norms)))
    if volume < 0.1:
        raise InputRefusedError(
            f"{path}: wanted an invertible affine, got {np.round(columns, 4).tolist()}"
        )
    low, high = SPACING_MM
    if norms.min() < low * 0.999 or norms.max() > high * 1.001:
        raise InputRefusedError(
            f"{path}: wanted a spacing of {low}-{high} mm, got "
            f"{[round(float(n), 4) for n in norms]}"
        )
    _check_size(path, shape)
    extent = norms * shape
    low, high = EXTENT_MM
    if extent.min() < low or extent.max() > high:
        raise InputRefusedError(
            f"{path}: wanted an extent of {low:g}-{high:g} mm, got "
            f"{[round(float(mm), 1) for mm in extent]}"
        )


def _check_size(path: str | Path, shape: tuple) -> None:
    if min(shape) < MIN_VOXELS:
        raise InputRefusedError(
            f"{path}: wanted at least {MIN_VOXELS} voxels along each axis, got {shape}"
        )


def _scaled(
    stored: Shaped[np.ndarray, "x y z"], file: _Stored
) -> Float32[np.ndarray, "x y z"]:
    with np.errstate(over="ignore", invalid="ignore"):
        if (file.slope, file.intercept) == (1.0, 0.0):
            return stored.astype(np.float32)
        scaled = stored.astype(np.float64)
        scaled *= file.slope
        scaled += file.intercept
        return scaled.astype(np.float32)


def _check_values(path: str | Path, voxels: Float32[np.ndarray, "x y z"]) -> None:
    finite = np.isfinite(voxels)
    if not finite.all():
        nans = int(np.isnan(voxels).sum())
        infinite = voxels.size - int(finite.sum()) - nans
        raise InputRefusedError(
            f"{path}: wanted finite values, got {nans} NaN and {infinite} infinite "
            f"of {voxels.size}"
        )
    if voxels.min() == voxels.max():
        raise InputRefusedError(
            f"{path}: wanted an image, got the constant {float(voxels.min()):g}"
        )
