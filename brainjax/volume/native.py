"""The way back: from the space of a recipe to the space of the scan."""

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from brainjax.volume.through import Order, resample_through


def bring_back(
    values: Shaped[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    to_scan: Float64[np.ndarray, "4 4"],
    scan_affine: Float64[np.ndarray, "4 4"],
    scan_shape: tuple[int, int, int],
    *,
    order: Order = "nearest",
) -> Float32[np.ndarray, "i j k"]:
    """Gives a map made on a canonical volume on the grid of its scan, in RAS+.

    One resampling, through the inverse of what was kept.

    Args:
        values: on the canonical grid, as a segmentation or a saliency map.
        affine: of the canonical volume, as in the manifest.
        to_scan: mm of the canonical volume to mm of the scan, as in the manifest; the
            identity for recipes that leave a scan in its own space.
        scan_affine, scan_shape: of the grid to come back to, as of `mask.nii.gz`.
        order: "nearest" for labels, "linear" for the rest.
    """
    return resample_through(
        np.asarray(values, np.float32),
        affine,
        np.linalg.inv(to_scan),
        scan_affine,
        scan_shape,
        order=order,
    )
