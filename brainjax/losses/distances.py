"""Signed distances to the border of masks, under `jit`, for boundary losses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def signed_distances(
    masks: Bool[Array, "b x y z n"], *, reach: int = 8
) -> Float[Array, "b x y z n"]:
    """Gives the distance in voxels to each mask's border, below 0 inside.

    The border lies half a voxel from the centres beside it. Exact where it is less
    than `reach` - 1/2 away, which is also the most that is given: so everywhere where a
    mask is empty or full. Beyond the array lies nothing. One mask takes
    6 * (2 * reach + 1) passes over the voxels: of 2 mm, 0.1 s of one CPU core.
    """
    away = _distances(masks, reach)
    into = _distances(~masks, reach)
    return jnp.where(masks, 0.5 - into, away - 0.5)


def _distances(masks: Array, reach: int) -> Array:
    """Distance to the nearest voxel of a mask, at most `reach`."""
    squares = jnp.where(masks, 0.0, jnp.float32(reach**2))
    for axis in (1, 2, 3):
        squares = _along(squares, axis, reach)
    return jnp.sqrt(squares)


def _along(squares: Array, axis: int, reach: int) -> Array:
    """The least of a neighbour's square plus that of the way to it, along one axis.

    Squared distances fall apart by axis (Felzenszwalb and Huttenlocher 2012); within
    the reach, trying every neighbour needs no envelope and no branch.
    """
    side = squares.shape[axis]
    edges = [(reach, reach) if a == axis else (0, 0) for a in range(squares.ndim)]
    padded = jnp.pad(squares, edges, constant_values=reach**2)

    def closer(step, best):
        there = jax.lax.dynamic_slice_in_dim(padded, step, side, axis)
        return jnp.minimum(best, there + jnp.square(step - reach).astype(best.dtype))

    return jax.lax.fori_loop(0, 2 * reach + 1, closer, squares)
