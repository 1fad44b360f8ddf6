"""How bright each tissue is in each sequence, and the label each one gets."""

import numpy as np
from jaxtyping import Float, UInt8

from brainjax.phantom.anatomy import Anatomy

_COLUMNS = [
    "csf",
    "ventricle",
    "grey",
    "white",
    "skull",
    "marrow",
    "fat",
    "muscle",
    "eye",
]
_COLUMNS += ["detail", "enhancement"]

_ROWS = {
    "T1w": (0.15, 0.13, 0.55, 0.84, 0.10, 0.62, 0.95, 0.42, 0.18, 0.9, 0.0),
    "T2w": (0.95, 1.00, 0.58, 0.38, 0.08, 0.40, 0.55, 0.22, 0.97, -0.7, 0.0),
    "FLAIR": (0.14, 0.08, 0.72, 0.55, 0.08, 0.40, 0.62, 0.33, 0.12, -0.5, 0.0),
    "T1CE": (0.16, 0.13, 0.54, 0.76, 0.10, 0.62, 0.92, 0.50, 0.18, 0.8, 0.9),
}

_LESIONS = ["necrosis", "tumour", "rim", "margin", "oedema"]
_LESIONS += ["acute", "subacute", "chronic"]

_LESION_ROWS = {
    "T1w": (0.28, 0.42, 0.50, 0.48, 0.58, 0.60, 0.44, 0.20),
    "T2w": (0.86, 0.92, 0.66, 0.74, 0.80, 0.76, 0.86, 0.96),
    "FLAIR": (0.62, 0.40, 0.84, 0.92, 0.96, 1.00, 0.84, 0.24),
    "T1CE": (0.26, 0.42, 1.15, 0.50, 0.54, 0.56, 0.90, 0.20),
}

CONTRASTS = {
    name: dict(zip(_COLUMNS + _LESIONS, row + _LESION_ROWS[name], strict=True))
    for name, row in _ROWS.items()
}
"""Relative intensity of every tissue (air is 0), and gain of the two extra maps."""

_BY_LABEL = [
    "air",
    "csf",
    "grey",
    "white",
    "ventricle",
    "skull",
    "fat",
    "muscle",
    "eye",
]
_HEALTHY = {name: label for label, name in enumerate(_BY_LABEL)} | {"marrow": 5}

LABELS = _HEALTHY | {
    "necrosis": 9,
    "tumour": 9,
    "oedema": 10,
    "rim": 11,
    "margin": 11,
    "acute": 12,
    "subacute": 12,
    "chronic": 12,
}
"""Label of every tissue in the true label maps; 0 is outside (and air).

A glioma's core is 9, its oedema 10, its rim 11; the lesion of a stroke is 12.
"""


def make_contrast(
    anatomy: Anatomy, sequence: str, rng: np.random.Generator
) -> Float[np.ndarray, "x y z"]:
    """Gives the noiseless image of a sequence, tissues varied by 7 % per scanner.

    I = sum_k f_k c_k (1 + 0.07 e_k) + g detail + h (1.5 - I) enhancement.
    """
    row = CONTRASTS[sequence]
    signal = np.zeros(anatomy.voxels.size, np.float32)
    # Drawn for every tissue, present or not: stripped and whole heads agree.
    shares = {name: 1 + 0.07 * rng.standard_normal() for name in _HEALTHY}
    shares["ventricle"] = shares["csf"]
    for name, fraction in anatomy.tissues.items():
        signal += np.float32(row.get(name, 0.0) * shares.get(name, 1.0)) * fraction
    brain = anatomy.tissues["grey"] + anatomy.tissues["white"]
    signal += np.float32(row["detail"]) * anatomy.maps["detail"] * brain
    bright = np.float32(row["enhancement"]) * anatomy.maps["enhancement"]
    signal += bright * np.clip(1.5 - signal, 0, None)
    image = np.zeros(int(np.prod(anatomy.grid.shape)), np.float32)
    image[anatomy.voxels] = np.clip(signal, 0, None)
    return image.reshape(anatomy.grid.shape)


def inside_mask(anatomy: Anatomy) -> np.ndarray:
    """Gives the true mask [x, y, z] of the stripped brain, or of the head."""
    mask = np.zeros(int(np.prod(anatomy.grid.shape)), bool)
    mask[anatomy.voxels] = anatomy.maps["inside"]
    return mask.reshape(anatomy.grid.shape)


def make_labels(anatomy: Anatomy) -> UInt8[np.ndarray, "x y z"]:
    """Gives the label of the tissue that fills most of each voxel, 0 outside."""
    shares: dict[int, np.ndarray] = {}
    for name, fraction in anatomy.tissues.items():
        label = LABELS[name]
        shares[label] = shares[label] + fraction if label in shares else fraction
    codes = np.array(list(shares), np.uint8)
    best = codes[np.argmax(np.stack(list(shares.values())), axis=0)]
    labels = np.zeros(int(np.prod(anatomy.grid.shape)), np.uint8)
    labels[anatomy.voxels] = best * anatomy.maps["inside"]
    return labels.reshape(anatomy.grid.shape)
