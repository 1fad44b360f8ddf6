"""Small scans made for tests: an asymmetric head-like body on any grid."""

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (30, 36, 28)
SPACING = (5.0, 4.5, 6.0)


def body() -> np.ndarray:
    """An ellipsoid with a bright block on the subject's right front top, RAS."""
    grid = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    mm = grid * np.array(SPACING)[:, None, None, None]
    radii = np.array([60.0, 70.0, 65.0])[:, None, None, None]
    inside = ((mm / radii) ** 2).sum(0) < 1
    texture = np.random.default_rng(0).integers(300, 600, SHAPE)
    texture[17:20, 22:26, 17:20] = 900
    return (texture * inside).astype(np.int16)


def affine() -> np.ndarray:
    """RAS with the origin somewhere inside."""
    matrix = np.diag([*SPACING, 1.0])
    matrix[:3, 3] = [-70.0, -85.0, -60.0]
    return matrix


def write(path: Path, voxels=None, matrix=None, **settings) -> Path:
    """Writes a NIfTI file; settings go into its header."""
    voxels = body() if voxels is None else voxels
    image = nib.Nifti1Image(voxels, affine() if matrix is None else matrix)
    image.set_sform(image.affine, settings.pop("sform_code", 1))
    image.set_qform(settings.pop("qform", None), settings.pop("qform_code", 0))
    for name, value in settings.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path
