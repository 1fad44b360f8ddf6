"""Intensity augmentations: each a draw and an apply, and a row in the table.

They act on values in 0..1, give values in 0..1 and leave the outside at 0. A draw that
changes nothing (not this time, or strength 0) is not active: the exact identity.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from brainjax.augment.noise import gaussian_noise
from brainjax.augment.views import View

_DEGREE = 3  # of the bias field's polynomial


class Draw(NamedTuple):
    """What one augmentation will do to one view.

    active: bool; False leaves the view exactly as it is.
    amount: an array, or a tuple of them, that the augmentation's apply knows.
    """

    active: Bool[Array, ""]
    amount: Any


class Row(NamedTuple):
    """How an augmentation is drawn: (key, strength, probability); and applied."""

    draw: Any
    apply: Any


def _signed(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    often, much = jax.random.split(key)
    amount = jax.random.uniform(much, minval=-strength, maxval=strength)
    return Draw(jax.random.bernoulli(often, probability) & (amount != 0), amount)


def _positive(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    active, amount = _signed(key, strength, probability)
    return Draw(active, jnp.abs(amount))


def _inside(view: View, values: Float[Array, "x y z"]) -> View:
    return View(jnp.where(view.inside, jnp.clip(values, 0, 1), 0), view.inside)


def _select(view: View, active: Bool[Array, ""], values: Float[Array, "x y z"]) -> View:
    # Cheap changes are always computed: a select fuses, a branch does not.
    changed = _inside(view, values).values
    return View(jnp.where(active, changed, view.values), view.inside)


def draw_gamma(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws log gamma, uniform in -strength..strength."""
    return _signed(key, strength, probability)


def apply_gamma(view: View, draw: Draw) -> View:
    """Raises values to the power gamma."""
    logs = jnp.log(jnp.maximum(view.values, 1e-12))
    return _select(view, draw.active, jnp.exp(jnp.exp(draw.amount) * logs))


def draw_brightness(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws what is added, uniform in -strength..strength."""
    return _signed(key, strength, probability)


def apply_brightness(view: View, draw: Draw) -> View:
    """Adds a constant; what leaves 0..1 saturates (the z-score undoes the rest)."""
    return _select(view, draw.active, view.values + draw.amount)


def draw_contrast(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws the log factor, uniform in -strength..strength."""
    return _signed(key, strength, probability)


def apply_contrast(view: View, draw: Draw) -> View:
    """Widens or narrows values about their mean; what leaves 0..1 saturates."""
    mean = view.values.sum() / jnp.maximum(view.inside.sum(dtype=jnp.float32), 1)
    values = (view.values - mean) * jnp.exp(draw.amount) + mean
    return _select(view, draw.active, values)


def draw_blur(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws sigma, uniform in 0..strength voxels of the view; gives the kernel's half.

    amount: weights [r + 1] of the middle voxel and of one side, r = 3 * strength.
    """
    active, sigma = _positive(key, strength, probability)
    distance = jnp.arange(math.ceil(3 * strength) + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * jnp.square(distance / jnp.maximum(sigma, 0.05)))
    return Draw(active, weights / (2 * weights.sum() - weights[0]))


def _smooth(values: Float[Array, "x y z"], half: Float[Array, "r"], axis: int):
    reach, size = half.shape[0] - 1, values.shape[axis]
    padded = jnp.pad(
        values, [(reach, reach) if a == axis else (0, 0) for a in range(3)]
    )
    shifted = [
        jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
        for start in range(2 * reach + 1)
    ]
    pairs = zip(shifted[:reach], reversed(shifted[reach + 1 :]), strict=True)
    sides = (half[reach - n] * (a + b) for n, (a, b) in enumerate(pairs))
    return sum(sides, start=half[0] * shifted[reach])


def apply_blur(view: View, draw: Draw) -> View:
    """Smooths by a Gaussian, counting inside voxels only: the outside stays out."""

    def blur(view: View) -> View:
        values, weight = view.values, view.inside.astype(jnp.float32)
        for axis in (2, 1, 0):
            values, weight = (_smooth(v, draw.amount, axis) for v in (values, weight))
            # Fused, the axes would redo each other's sums for every tap.
            values, weight = jax.lax.optimization_barrier((values, weight))
        return _inside(view, values / jnp.maximum(weight, 1e-6))

    return jax.lax.cond(draw.active, blur, lambda view: view, view)


def draw_noise(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws the standard deviation, uniform in 0..strength, and the noise's own key."""
    key, own = jax.random.split(key)
    active, deviation = _positive(key, strength, probability)
    return Draw(active, (deviation, jax.random.key_data(own)))


def apply_noise(view: View, draw: Draw) -> View:
    """Adds Gaussian noise."""
    deviation, words = draw.amount

    def add(view: View) -> View:
        noise = gaussian_noise(words, view.values.shape)
        return _inside(view, view.values + deviation * noise)

    return jax.lax.cond(draw.active, add, lambda view: view, view)


def _bias_scale() -> np.ndarray:
    """Gives [4, 4, 4]: what turns unit normals into a field of root mean square 1."""
    degrees = np.indices((_DEGREE + 1,) * 3)
    total = degrees.sum(axis=0)
    kept = (total > 0) & (total <= _DEGREE)
    damping = np.where(kept, 1 / np.maximum(total, 1), 0)  # Low orders lead.
    power = np.square(damping).sum()
    legendre = np.prod(2 * degrees + 1, axis=0)  # 1 / mean square of each term
    return (damping * np.sqrt(legendre / power)).astype(np.float32)


def draw_bias(key: Key[Array, ""], strength: float, probability: float) -> Draw:
    """Draws the polynomial of the log gain; root mean square `strength` on average."""
    often, much = jax.random.split(key)
    coefficients = strength * jax.random.normal(much, (_DEGREE + 1,) * 3)
    active = jax.random.bernoulli(often, probability) & (strength != 0)
    return Draw(active, coefficients * _bias_scale())


def _legendre(size: int) -> np.ndarray:
    """Gives Legendre polynomials 0..3 on the centres of `size` voxels: [4, size]."""
    at = (2 * np.arange(size) + 1) / size - 1
    return np.polynomial.legendre.legvander(at, _DEGREE).T.astype(np.float32)


def apply_bias(view: View, draw: Draw) -> View:
    """Multiplies by a smooth field: exp of a polynomial of degree 3 (Legendre)."""
    x, y, z = (_legendre(size) for size in view.values.shape)
    planes = jnp.einsum("abc,cz->abz", draw.amount, z, precision="highest")
    planes = jnp.einsum("abz,by->ayz", planes, y, precision="highest")
    gain = sum(x[n][:, None, None] * planes[n] for n in range(_DEGREE + 1))
    return _select(view, draw.active, view.values * jnp.exp(gain))


AUGMENTATIONS: dict[str, Row] = {
    "bias": Row(draw_bias, apply_bias),
    "gamma": Row(draw_gamma, apply_gamma),
    "brightness": Row(draw_brightness, apply_brightness),
    "contrast": Row(draw_contrast, apply_contrast),
    "blur": Row(draw_blur, apply_blur),
    "noise": Row(draw_noise, apply_noise),
}
"""Intensity augmentations, in the order they are applied (as a scanner would)."""


def apply_draws(view: View, draws: dict[str, Draw]) -> View:
    """Gives the view after every augmentation that was drawn, in their order."""
    for name, row in AUGMENTATIONS.items():
        if name in draws:
            view = row.apply(view, draws[name])
    return view
