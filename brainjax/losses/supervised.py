"""Losses of labelled samples: one value a sample, then masked sums, divided last."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


class Sums(NamedTuple):
    """A loss that is not yet divided: add these up over batches, divide once."""

    total: Float[Array, ""]
    weight: Float[Array, ""]


def mse(outputs: Float[Array, " b"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
    """Squared difference of each sample."""
    return jnp.square(outputs - targets)


def huber(
    outputs: Float[Array, " b"], targets: Float[Array, " b"], *, delta: float = 1.0
) -> Float[Array, " b"]:
    """Half the squared difference up to `delta`, linear beyond (Huber 1964)."""
    return optax.losses.huber_loss(outputs, targets, delta=delta)


def cross_entropy(
    logits: Float[Array, "b k"], targets: Int[Array, " b"]
) -> Float[Array, " b"]:
    """-log of the softmax probability of the true class, in nats."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets)


def masked_sums(values: Float[Array, " b"], weight: Float[Array, " b"]) -> Sums:
    """Weighted sum and sum of weights; a value of weight 0 may even be NaN.

    Make the *inputs* of a loss finite where the weight is 0 all the same: here only
    the value is safe, the gradient of a NaN is NaN.
    """
    weight = weight.astype(values.dtype)
    return Sums(jnp.sum(jnp.where(weight > 0, values * weight, 0.0)), weight.sum())


def masked_mean(values: Float[Array, " b"], weight: Float[Array, " b"]):
    """Weighted mean of the samples; 0, and gradient 0, when all weights are 0."""
    total, count = masked_sums(values, weight)
    return total / jnp.where(count > 0, count, 1.0)
