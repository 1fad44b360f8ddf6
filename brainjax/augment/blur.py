"""Gaussian blur by matrix products, one an axis, whatever the width."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_SHARP = 0.05  # sigma, in voxels, below which a neighbour's weight is nothing


def blur(
    values: Float[Array, "x y z"], sigma: Float[Array, "3"]
) -> Float[Array, "x y z"]:
    """Gives values convolved with a Gaussian of `sigma` voxels along each axis.

    Beyond the volume lies 0. A sigma of 0 changes nothing.
    """
    for axis, letter in ((2, "z"), (1, "y"), (0, "x")):
        weights = blur_weights(values.shape[axis], sigma[axis])
        result = "xyz".replace(letter, "n")
        form = f"xyz,n{letter}->{result}"
        values = jnp.einsum(form, values, weights, precision="highest")
    return values


def blur_weights(size: int, sigma: Float[Array, ""]) -> Float[Array, "n n"]:
    """Gives what each voxel takes of every other, [size, size]."""
    far = np.arange(1 - size, size)
    apart = np.arange(size)[:, None] - np.arange(size)
    weights = jnp.exp(-0.5 * jnp.square(far / jnp.maximum(sigma, _SHARP)))
    return (weights / weights.sum())[apart + size - 1]
