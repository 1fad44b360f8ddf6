"""The volume and the shape of a structure, as the IBSI defines them, by mirp.

The mesh is that of marching cubes at 0.5 over the mask itself (IBSI 1, section 3.1), so
that its area is larger than that of a smooth body of the same form, on any grid: by 9 %
of a ball. Volume, diameters and axes come near those of the smooth body.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from brainjax.errors import InputRefusedError, MissingExtraError


class Feature(NamedTuple):
    """A shape feature: its name and code in the IBSI, its unit, mirp's short name."""

    name: str
    ibsi: str
    unit: str
    mirp: str


SHAPE_FEATURES = {
    "mesh_volume": Feature("Volume (mesh)", "RNU0", "mm3", "morph_volume"),
    "surface_area": Feature("Surface area (mesh)", "C0JK", "mm2", "morph_area_mesh"),
    "surface_to_volume_ratio": Feature(
        "Surface to volume ratio", "2PR5", "mm-1", "morph_av"
    ),
    "compactness_1": Feature("Compactness 1", "SKGS", "1", "morph_comp_1"),
    "compactness_2": Feature("Compactness 2", "BQWJ", "1", "morph_comp_2"),
    "spherical_disproportion": Feature(
        "Spherical disproportion", "KRCK", "1", "morph_sph_dispr"
    ),
    "sphericity": Feature("Sphericity", "QCFX", "1", "morph_sphericity"),
    "asphericity": Feature("Asphericity", "25C7", "1", "morph_asphericity"),
    "maximum_3d_diameter": Feature("Maximum 3D diameter", "L0JK", "mm", "morph_diam"),
    "major_axis_length": Feature(
        "Major axis length", "TDIC", "mm", "morph_pca_maj_axis"
    ),
    "minor_axis_length": Feature(
        "Minor axis length", "P9VJ", "mm", "morph_pca_min_axis"
    ),
    "least_axis_length": Feature(
        "Least axis length", "7J51", "mm", "morph_pca_least_axis"
    ),
    "elongation": Feature("Elongation", "Q3CK", "1", "morph_pca_elongation"),
    "flatness": Feature("Flatness", "N17B", "1", "morph_pca_flatness"),
}
"""The fourteen, by the name of their column; definitions in IBSI 1, section 3.1."""

VOLUME = Feature("Volume (voxel counting)", "YEKZ", "mm3", "morph_vol_approx")
"""What `volume_ml` is, in mm³: voxels counted, each of one voxel's size."""

MIN_VOXELS = 8
"""Of fewer voxels no shape is given: the mesh would be that of single voxels."""


class Shape(NamedTuple):
    """Volume in ml and the features of SHAPE_FEATURES by name, each in its unit.

    A feature is None where it is not defined: of fewer than MIN_VOXELS voxels all are,
    of a flat structure some.
    """

    volume_ml: float
    features: dict[str, float | None]


def volume_ml(mask: Bool[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]):
    """Gives the volume of a mask in ml: voxels times the size of one, shear too."""
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def shape_of(
    mask: Bool[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]
) -> Shape:
    """Gives volume and shape of one structure, all of its parts together.

    Args:
        mask: on any grid, axes in any order.
        affine: indices to mm. Its axes must stand on one another.

    Raises:
      InputRefusedError: the affine shears; lengths along such axes are none.
      MissingExtraError: mirp is not installed.
    """
    volume = volume_ml(mask, affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=2e-3):
        raise InputRefusedError(
            "wanted axes that stand on one another, got a sheared affine: "
            f"{np.round(affine[:3, :3], 4).tolist()}"
        )
    if int(mask.sum()) < MIN_VOXELS:
        return Shape(volume, dict.fromkeys(SHAPE_FEATURES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of flat structures: a division by 0
        values = _by_mirp(_cropped(mask), tuple(spacing.tolist()))
    return Shape(volume, values)


def shapes_of(
    labels: Shaped[np.ndarray, "i j k"],
    affine: Float[np.ndarray, "4 4"],
    names: list[str] | tuple[str, ...],
) -> dict[str, Shape]:
    """Gives the shape of each class of a label map: `names[n]` is number n + 1."""
    return {
        name: shape_of(labels == number, affine)
        for number, name in enumerate(names, start=1)
    }


def _cropped(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "x y z"]:
    """Gives the box round a mask: mirp makes a table of all that it is shown."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return np.ascontiguousarray(mask[tuple(box)])


def _by_mirp(
    mask: Bool[np.ndarray, "x y z"], spacing: tuple[float, ...]
) -> dict[str, float | None]:
    """Gives the features; mirp's own entry would compute dozens more, for minutes."""
    generate, settings, image_class, mask_class = _mirp()
    place = {"image_spacing": spacing, "image_origin": (0.0, 0.0, 0.0)}
    place["image_orientation"] = np.eye(3)
    place["image_dimensions"] = mask.shape
    image = image_class(image_data=mask.astype(np.float32), **place)
    roi = mask_class("structure", image_data=mask, **place)
    roi.generate_masks()
    short = [feature.mirp for feature in SHAPE_FEATURES.values()]
    found = {}
    for feature in generate(settings=settings(), features=short):
        feature.compute(image=image, mask=roi)
        found[feature.abbr_name] = feature.value
        last = feature
    last.clear_cache()
    return {
        name: _number(found[feature.mirp]) for name, feature in SHAPE_FEATURES.items()
    }


def _number(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _mirp() -> tuple[Any, Any, Any, Any]:
    """Gives the parts of mirp (Zwanenburg et al., JOSS 2024) that shapes need."""
    try:
        from mirp._features.morph_3d_features import generate_morph_3d_features
        from mirp._images.generic_image import GenericImage
        from mirp._masks.base_mask import BaseMask
        from mirp.settings.feature_parameters import FeatureExtractionSettingsClass
    except ImportError:
        raise MissingExtraError("mirp", "segmentation") from None
    settings = FeatureExtractionSettingsClass
    return generate_morph_3d_features, settings, GenericImage, BaseMask
