"""A head made from a few smooth bodies, and a move, for tests of alignment."""

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainjax.volume.template import load_template


def head(mm: float = 4.0, sequence: str = "T1w") -> tuple[np.ndarray, np.ndarray]:
    """Gives a head round the template's tissues, and its affine: template = scan mm."""
    template = load_template(mm)
    brain = template.brain
    fluid = brain - template.grey - template.white
    dark, grey, white = {"T1w": (0.15, 0.55, 0.85), "T2w": (0.95, 0.6, 0.4)}[sequence]
    image = dark * fluid + grey * template.grey + white * template.white
    away = ndimage.distance_transform_edt(np.pad(~brain, 6, constant_values=True))
    away = np.asarray(away) * mm
    image = np.pad(np.clip(image, 0, None), 6).astype(np.float32)
    image[(away > 4) & (away <= 10)] = 0.1
    image[(away > 10) & (away <= 18)] = 0.9
    noise = np.random.default_rng(0).normal(0, 0.01, image.shape)
    affine = template.affine.copy()
    affine[:3, 3] -= 6 * mm
    return (image + np.abs(noise)).astype(np.float32), affine


def move(degrees: tuple, shift: tuple, scale: float = 1.0) -> np.ndarray:
    """Gives a matrix in mm."""
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, :3] = scale * turn
    matrix[:3, 3] = shift
    return matrix


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Gives the most by which two matrices differ on the template's brain, mm."""
    template = load_template(4.0)
    points = np.argwhere(template.brain)[::11]
    points = points @ template.affine[:3, :3].T + template.affine[:3, 3]
    gap = points @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.linalg.norm(gap, axis=1).max())
