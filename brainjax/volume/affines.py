"""Where a NIfTI header says that its voxels are."""

from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.spatialimages import HeaderDataError

from brainjax.errors import InputRefusedError


def is_unstated(header: nib.Nifti1Header) -> bool:
    """Tells whether a header has neither an sform nor a qform."""
    return max(int(header["sform_code"]), int(header["qform_code"])) <= 0


def unstated_affine(
    header: nib.Nifti1Header, shape: tuple
) -> Float64[np.ndarray, "4 4"]:
    """Gives that of the voxel sizes alone, as if RAS; 1 mm where there are none."""
    zooms = np.nan_to_num(header.get_zooms()[:3], posinf=0)
    zooms = tuple(float(mm) if mm > 0 else 1.0 for mm in zooms)
    return _stated_affine("RAS", zooms, shape)


def header_affine(
    path: str | Path, header: nib.Nifti1Header, shape: tuple, orientation: str | None
) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of a file: its sform's, else its qform's, else as stated.

    Raises InputRefusedError where it has none and `orientation` does not say it, and
    where the two disagree on left and right.
    """
    sform = None
    if int(header["sform_code"]) > 0:
        sform = np.asarray(header.get_sform(), np.float64)
    qform = _qform(path, header, needed=sform is None)
    if sform is not None and qform is not None:
        _check_agreement(path, sform, qform)
    affine = sform if sform is not None else qform
    if affine is None:
        if orientation is None:
            raise InputRefusedError(
                f"{path}: wanted an orientation, got sform_code 0 and qform_code 0; "
                "state it, such as --orientation RAS"
            )
        affine = _stated_affine(orientation, header.get_zooms()[:3], shape)
    return affine


def _qform(
    path: str | Path, header: nib.Nifti1Header, *, needed: bool
) -> Float64[np.ndarray, "4 4"] | None:
    if int(header["qform_code"]) <= 0:
        return None
    try:
        return np.asarray(header.get_qform(), np.float64)
    except (ValueError, HeaderDataError) as error:
        if not needed:
            return None
        raise InputRefusedError(f"{path}: wanted a valid qform, got {error}") from None


def _stated_affine(
    orientation: str, zooms: tuple, shape: tuple
) -> Float64[np.ndarray, "4 4"]:
    """Gives the affine of an array whose axes point as three letters say."""
    pairs = ({"R", "L"}, {"A", "P"}, {"S", "I"})
    letters = tuple(orientation.upper())
    if len(letters) != 3 or not all(set(letters) & pair for pair in pairs):
        raise InputRefusedError(
            f"orientation: wanted three letters, one of R/L, one of A/P, one of S/I, "
            f"got {orientation!r}"
        )
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, letter in enumerate(letters):
        world = next(i for i, pair in enumerate(pairs) if letter in pair)
        affine[world, axis] = zooms[axis] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _check_agreement(path: str | Path, sform: np.ndarray, qform: np.ndarray) -> None:
    """Refuses a file whose two affines put left and right in different places."""
    right = [
        a[0, :3] / max(float(np.linalg.norm(a[0, :3])), 1e-12) for a in (sform, qform)
    ]
    hands = [np.linalg.det(a[:3, :3]) for a in (sform, qform)]
    if 0 in hands:
        return
    if float(right[0] @ right[1]) < 0.5 or hands[0] * hands[1] < 0:
        codes = ["".join(nib.aff2axcodes(a)) for a in (sform, qform)]
        raise InputRefusedError(
            f"{path}: sform and qform disagree on left and right: wanted one "
            f"orientation, got sform {codes[0]} and qform {codes[1]}"
        )
