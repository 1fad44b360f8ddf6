"""The surface of the template's brain: points, their neighbours, and what they move.

Everything is in mm of the template and made once a process.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage, sparse
from scipy.spatial import KDTree

from brainjax.volume.template import load_template

MM = 2.0
MARGIN_MM = 24.0
"""How far beyond the template's box a head is looked at."""

BAND_MM = 12.0
"""How far on either side of the surface a moved surface may come to lie."""

SPARSE = 4
"""One of so many voxels below the surface carries a point: about 3.5 mm apart."""

SPREAD_MM = 4.0
SPREAD_POINTS = 8


class Surface(NamedTuple):
    """Points on the template's brain.

    points, normals: [p, 3], mm of the template; normals point outwards, of length 1.
    depth: mm outside the brain, negative inside, on the template's box and a margin.
    affine: voxel indices of `depth` to mm of the template.
    band: the voxels within BAND_MM of the surface.
    carry: [voxels of the band, p]: what each takes of the points near it.
    """

    points: Float64[np.ndarray, "p 3"]
    normals: Float64[np.ndarray, "p 3"]
    depth: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    band: Bool[np.ndarray, "x y z"]
    carry: sparse.csr_array

    def moved(
        self, outwards: Float64[np.ndarray, " p"]
    ) -> Float32[np.ndarray, "x y z"]:
        """Gives `depth` of the brain whose points went so many mm outwards."""
        depth = self.depth.copy()
        depth[self.band] -= (self.carry @ outwards).astype(np.float32)
        return depth


@functools.lru_cache(maxsize=1)
def template_surface() -> Surface:
    """Gives the surface of the template; kept, and so not to be written into."""
    template = load_template(MM)
    margin = int(MARGIN_MM / MM)
    brain = np.pad(template.brain, margin)
    affine = template.affine.copy()
    affine[:3, 3] -= margin * MM
    depth = signed_distance(brain)
    index, normals = _points(depth)
    band = abs(depth) < BAND_MM
    carry = _carry(np.argwhere(band) * MM, index * MM)
    points = index * MM + affine[:3, 3]
    return Surface(points, normals, depth, affine, band, carry)


@functools.lru_cache(maxsize=8)
def neighbours(mm: float) -> sparse.csr_array:
    """Gives weights [p, p] of a Gaussian over the surface; each row adds up to 1.

    Points that look another way lie on another bank of a fissure: they do not count.
    """
    surface = template_surface()
    tree = KDTree(surface.points)
    pairs = tree.query_pairs(2 * mm, output_type="ndarray")
    itself = np.arange(tree.n)
    ones = np.concatenate([*pairs.T, itself])
    others = np.concatenate([*pairs.T[::-1], itself])
    distance = surface.points[ones] - surface.points[others]
    weights = np.exp(-0.5 * (distance**2).sum(1) / mm**2)
    weights *= (surface.normals[ones] * surface.normals[others]).sum(1) > 0.2
    return _rows_to_one(weights, ones, others, (tree.n, tree.n))


def signed_distance(
    mask: Bool[np.ndarray, "x y z"],
) -> Float32[np.ndarray, "x y z"]:
    """Gives mm to the surface of a mask of MM voxels, negative inside, smoothed."""
    outside = np.asarray(ndimage.distance_transform_edt(~mask))
    inside = np.asarray(ndimage.distance_transform_edt(mask))
    distance = np.asarray(MM * np.where(mask, 0.5 - inside, outside - 0.5))
    return ndimage.gaussian_filter(distance.astype(np.float32), 0.5)


def _points(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives points (voxel indices) on the surface, evenly thinned, and normals."""
    index = np.argwhere((depth < 0) & (depth > -MM))
    index = index[(index @ [1, 2, 3]) % SPARSE == 0]
    smooth = ndimage.gaussian_filter(depth, 1.5)
    slopes = np.stack(list(np.gradient(smooth)), axis=-1)[tuple(index.T)]
    normals = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    at = depth[tuple(index.T)][:, None]
    return index - at * normals / MM, normals.astype(np.float64)


def _carry(voxels: np.ndarray, points: np.ndarray) -> sparse.csr_array:
    distance, nearest = KDTree(points).query(voxels, SPREAD_POINTS)
    distance = distance - 0.8 * distance[:, :1]
    weights = np.exp(-0.5 * (distance / SPREAD_MM) ** 2)
    rows = np.arange(len(voxels)).repeat(SPREAD_POINTS)
    shape = (len(voxels), len(points))
    return _rows_to_one(weights.ravel(), rows, nearest.ravel(), shape)


def _rows_to_one(
    weights: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple
) -> sparse.csr_array:
    total = np.bincount(rows, weights, minlength=shape[0])
    return sparse.csr_array((weights / total[rows], (rows, columns)), shape=shape)
