"""Crop, flip, rotate, scale and translate, as one affine and one resampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8, UInt32

from brainjax.anatomy import AXES
from brainjax.augment.fusion import apart
from brainjax.augment.resize import Codes

Shape = tuple[int, int, int]


class Crop(NamedTuple):
    """A box in the field of view, both as fractions of it."""

    sides: Float[Array, "3"]
    centre: Float[Array, "3"]


class Placement(NamedTuple):
    """How a view lies in the field of view.

    matrix: rotation and scale [3, 3] about the view's centre, in isotropic units.
    shift: of the view's centre from the field's, as fractions of the field [3].
    sides: of the view, as fractions of the field [3].
    flip: bool, left and right exchanged.
    """

    matrix: Float[Array, "3 3"]
    shift: Float[Array, "3"]
    sides: Float[Array, "3"]
    flip: Bool[Array, ""]


def draw_crop(
    key: Key[Array, ""], *, fraction: tuple[float, float], aspect: float
) -> Crop:
    """Draws a box whose volume is uniform in `fraction` of the field of view.

    aspect: largest log change of a side against its neighbours. It is held back where
    a side would leave the field, so the volume is always the one that was drawn.
    """
    size, shape, place = jax.random.split(key, 3)
    volume = jax.random.uniform(size, minval=fraction[0], maxval=fraction[1])
    side = jnp.log(volume) / 3
    jitter = jax.random.uniform(shape, (3,), minval=-aspect, maxval=aspect)
    jitter = jitter - jitter.mean()
    room = jnp.minimum(1, -side / jnp.maximum(jitter.max(), 1e-6))
    sides = jnp.minimum(jnp.exp(side + jitter * jnp.maximum(room, 0)), 1)
    offset = jax.random.uniform(place, (3,), minval=-0.5, maxval=0.5)
    return Crop(sides, offset * (1 - sides))


def rotation(angles: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Gives the matrix that turns about x, then y, then z; angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    return jnp.array(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ]
    )


def draw_placement(
    key: Key[Array, ""],
    *,
    crop: tuple[float, float],
    aspect: float,
    rotate: float,
    scale: float,
    stretch: float,
    translate: float,
    affine_probability: float,
    flip: float,
    box_key: Key[Array, ""] | None = None,
) -> Placement:
    """Draws where a view lies; `Augmentation` says what the strengths mean.

    box_key: draws the crop's box; all views that share it see the same tissue.
    """
    keys = jax.random.split(key, 7)
    box = draw_crop(
        keys[0] if box_key is None else box_key, fraction=crop, aspect=aspect
    )
    active = jax.random.bernoulli(keys[1], affine_probability).astype(jnp.float32)

    def spread(key, strength, shape=(3,)):
        return active * jax.random.uniform(key, shape, minval=-1, maxval=1) * strength

    turn = rotation(spread(keys[2], np.deg2rad(rotate)))
    zoom = jnp.exp(spread(keys[3], scale, ()) + spread(keys[4], stretch))
    # A larger head fills the view from a smaller part of the field: hence the inverse.
    return Placement(
        matrix=turn / zoom,
        shift=box.centre + spread(keys[5], translate),
        sides=box.sides,
        flip=jax.random.bernoulli(keys[6], flip),
    )


def voxel_affine(
    placement: Placement, *, field: Shape, stored: Shape, view: Shape
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """Gives (matrix, offset) from a view's voxel to the stored one.

    stored voxel = matrix @ (view voxel - (view shape - 1) / 2) + offset.

    field: the volume's extent in isotropic units (its shape before any reduction).
    Half-voxel exact: the whole field, upright, at equal sizes is the exact identity.
    """
    field_, stored_, view_ = (
        jnp.asarray(shape, jnp.float32) for shape in (field, stored, view)
    )
    matrix = placement.matrix * (stored_ / field_)[:, None]
    matrix = matrix * (placement.sides * (field_ / view_))
    sign = jnp.where(placement.flip, -1.0, 1.0)
    matrix = matrix.at[:, AXES["left_right"]].multiply(sign)
    return matrix, (stored_ - 1) / 2 + placement.shift * stored_


def voxel_positions(matrix, offset, view: Shape) -> list[Float[Array, "x y z"]]:
    """Gives the three stored coordinates of every voxel of the view.

    Sums of products, not a matmul: an accelerator would round that to bfloat16.
    """
    x, y, z = (jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in view)
    return [
        row[0] * x[:, None, None] + (row[1] * y[:, None] + (row[2] * z + start))
        for row, start in zip(matrix, offset, strict=True)
    ]


def _cells(matrix, offset, stored: tuple[int, ...], view: Shape):
    """Gives the cell (int32) and the place in it (0..1), in a volume padded by one.

    What lies beyond the padding is held there: padding is outside, so is all beyond.
    """
    cells, parts = [], []
    for position, size in zip(
        voxel_positions(matrix, offset, view), stored, strict=True
    ):
        position = jnp.clip(position + 1, 0, size + 1)
        cell = jnp.minimum(jnp.floor(position), size)
        cells.append(cell.astype(jnp.int32))
        parts.append(position - cell)
    return cells, parts


def _weighed(total, weight):
    """Gives (values, inside) from the weighted codes and the weight that is inside."""
    inside = weight > 0.5
    values = (total / jnp.where(inside, weight, 1) - 1) / 254
    return jnp.where(inside, jnp.clip(values, 0, 1), 0), inside


def resample_plain(
    codes: Codes, matrix, offset, view: Shape
) -> tuple[Float[Array, "x y z"], Bool[Array, "x y z"]]:
    """Gives (values, inside) by eight gathers: the twin that `resample` must equal.

    It takes codes that are not rounded too.
    """
    (i, j, k), parts = _cells(matrix, offset, codes.shape, view)
    padded = jnp.pad(codes, 1)
    total = weight = jnp.float32(0)
    for corner in np.ndindex(2, 2, 2):
        code = padded[i + corner[0], j + corner[1], k + corner[2]].astype(jnp.float32)
        share = jnp.float32(1)
        for side, part in zip(corner, parts, strict=True):
            share = share * (part if side else 1 - part)
        total += share * code
        weight += share * (code > 0)
    return _weighed(total, weight)


def _pack(codes: UInt8[Array, "a b c"]) -> UInt32[Array, "i j k"]:
    """Gives uint32 [a+2, b+1, c+1]: four neighbours, of the volume padded by one.

    From the lowest byte up: (y, z), (y+1, z), (y, z+1), (y+1, z+1).
    """
    padded = jnp.pad(codes, 1).astype(jnp.uint32)
    pairs = padded[:, :-1] | (padded[:, 1:] << 8)
    return pairs[:, :, :-1] | (pairs[:, :, 1:] << 16)


def resample(
    codes: UInt8[Array, "a b c"], matrix, offset, view: Shape
) -> tuple[Float[Array, "x y z"], Bool[Array, "x y z"]]:
    """Gives (values, inside) of a view, trilinear, counting inside voxels only.

    value = sum(w * v * [code > 0]) / sum(w * [code > 0]) with v = (code - 1) / 254, so
    that the brain's edge is not darkened; inside is where the divisor exceeds a half.

    Four neighbours are packed into one word first, so that a voxel costs two gathers
    and not eight: a whole chain of five takes 16 ms of one CPU core instead of 30.
    """
    (i, j, k), (x, y, z) = _cells(matrix, offset, codes.shape, view)
    packed = _pack(codes)
    _, rows, columns = packed.shape
    index = ((i * rows + j) * columns + k).astype(jnp.uint32)

    def gather(flat, index):
        pair = (index, index + np.uint32(rows * columns))
        return [flat.at[at].get(mode="promise_in_bounds") for at in pair]

    def corners(word):
        # By way of int32: a uint32 to float conversion is slow on a CPU.
        codes = [(word >> np.uint32(8 * byte)) & 255 for byte in range(4)]
        return [code.astype(jnp.int32).astype(jnp.float32) for code in codes]

    def between(low, high, part):
        return low + (high - low) * part

    def face(four):
        low, high = between(four[0], four[1], y), between(four[2], four[3], y)
        return between(low, high, z)

    words = apart(matrix, gather, packed.reshape(-1), index)
    near, far = map(corners, words)
    total = between(face(near), face(far), x)
    near, far = ([jnp.minimum(code, 1) for code in four] for four in (near, far))
    result = _weighed(total, between(face(near), face(far), x))
    return apart(matrix, lambda *same: same, *result)
