"""Smooth fields in space: sampled maps and seeded random B-splines."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse


class Field(NamedTuple):
    """Channels on a regular grid: values [x, y, z, c], first centre and step in mm."""

    values: np.ndarray
    origin: tuple[float, float, float]
    spacing: float


class Grid(NamedTuple):
    """Voxel centres of a RAS+ scan: shape, first centre and spacing in mm."""

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: float

    def axes(self) -> list[np.ndarray]:
        """Centres along left_right, posterior_anterior, inferior_superior in mm."""
        return [
            (o + self.spacing * np.arange(n)).astype(np.float32)
            for o, n in zip(self.origin, self.shape, strict=True)
        ]


def sample(field: Field, points: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "n c"]:
    """Gives every channel at points in mm, trilinear; beyond the grid its edge."""
    base, fraction = _cell(field, points)
    *shape, channels = field.values.shape
    _, ny, nz = shape
    start = (base[0] * ny + base[1]) * nz + base[2]
    steps = [(dx * ny + dy) * nz + dz for dx, dy, dz in np.ndindex(2, 2, 2)]
    corners = np.add(start[:, None], np.array(steps), dtype=np.int32, casting="unsafe")
    weights = np.empty((start.size, 8), np.float32)
    x, y, z = ((1 - f, f) for f in fraction)
    for edge, (dx, dy) in enumerate(np.ndindex(2, 2)):
        across = x[dx] * y[dy]
        for dz in (0, 1):
            np.multiply(across, z[dz], out=weights[:, 2 * edge + dz])
    # A sparse product reads all channels of a corner at once: one pass over the maps.
    rows = np.arange(0, corners.size + 1, 8, dtype=np.int32)
    size = (start.size, int(np.prod(shape)))
    matrix = sparse.csr_array((weights.ravel(), corners.ravel(), rows), shape=size)
    return matrix @ field.values.reshape(-1, channels)


def _cell(
    field: Field, points: Float[np.ndarray, "3 n"]
) -> tuple[Int[np.ndarray, "3 n"], Float[np.ndarray, "3 n"]]:
    """Lower corner of the cell each point lies in, and how far into it (0..1)."""
    last = np.array(field.values.shape[:3], np.float32)[:, None] - 1
    at = points - np.array(field.origin, np.float32)[:, None]
    at = np.clip(at / np.float32(field.spacing), 0, last)
    base = np.minimum(at.astype(np.int32), (last - 1).astype(np.int32))
    return base, at - base.astype(np.float32)


def spline(
    coefficients: Float[np.ndarray, "a b c"], grid: Grid, knot: float
) -> Float[np.ndarray, "x y z"]:
    """Gives the uniform cubic B-spline of coefficients with knots `knot` mm apart."""
    x, y, z = (
        _basis(n, grid.spacing / knot, k)
        for n, k in zip(grid.shape, coefficients.shape, strict=True)
    )
    # einsum without BLAS: the same bits whatever the number of threads.
    part = np.einsum("xa,abc->xbc", x, coefficients)
    part = np.einsum("yb,xbc->xyc", y, part)
    out = np.zeros(grid.shape, np.float32)
    for k in range(z.shape[1]):
        inside = np.flatnonzero(z[:, k])
        if inside.size:
            part_of = slice(inside[0], inside[-1] + 1)
            out[:, :, part_of] += part[:, :, k, None] * z[part_of, k]
    return out


def spline_shape(grid: Grid, knot: float) -> tuple[int, int, int]:
    """Shape of the coefficients that `spline` wants for a grid."""
    x, y, z = (int(n * grid.spacing / knot) + 4 for n in grid.shape)
    return x, y, z


def _basis(size: int, step: float, knots: int) -> Float[np.ndarray, "n k"]:
    """Cubic B-spline basis: row per voxel, column per coefficient."""
    distance = np.abs(np.arange(size)[:, None] * step + 1 - np.arange(knots)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Gives 1 / (1 + exp(-values)) without overflow, in float32."""
    return (0.5 * (1 + np.tanh(0.5 * values))).astype(np.float32)
