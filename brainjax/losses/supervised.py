"""Losses of labelled samples: one value a sample, then masked sums, divided last."""

from typing import NamedTuple

import jax
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


def l1(outputs: Float[Array, " b"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
    """Absolute difference of each sample."""
    return jnp.abs(outputs - targets)


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


def focal(
    logits: Float[Array, "b k"], targets: Int[Array, " b"], *, gamma: float = 2.0
) -> Float[Array, " b"]:
    """Cross-entropy times (1 - probability of the true class) ** gamma (Lin 2017).

    What is already right counts less; gamma 0 is the cross-entropy.
    """
    chances = jax.nn.log_softmax(logits)
    true = jax.nn.one_hot(targets, logits.shape[-1], dtype=bool)
    # log(1 - p) from the other classes: exact, and its slope finite, where p is 1.
    missed = jax.nn.logsumexp(jnp.where(true, -jnp.inf, chances), axis=-1)
    return jnp.exp(gamma * missed) * cross_entropy(logits, targets)


def soft_bins(
    logits: Float[Array, "b k"],
    targets: Float[Array, " b"],
    centres: Float[Array, " k"],
    *,
    spread: float,
) -> Float[Array, " b"]:
    """Cross-entropy to a normal distribution round the target over k bins (Peng 2021).

    targets, centres and spread (a standard deviation) share one unit.
    """
    wanted = jax.nn.softmax(soft_logits(targets, centres, spread=spread))
    return -jnp.sum(wanted * jax.nn.log_softmax(logits), axis=-1)


def soft_logits(
    targets: Float[Array, " b"], centres: Float[Array, " k"], *, spread: float
) -> Float[Array, "b k"]:
    """Logits of a normal distribution round each target, at the centres of k bins."""
    return -jnp.square((targets[:, None] - centres) / spread) / 2


def masked_sums(values: Float[Array, " b"], weight: Float[Array, " b"]) -> Sums:
    """Weighted sum and sum of weights; a value of weight 0 may even be NaN.

    Make the *inputs* of a loss finite where the weight is 0 all the same: here only
    the value is safe, the gradient of a NaN is NaN.
    """
    weight = weight.astype(values.dtype)
    return Sums(jnp.sum(jnp.where(weight > 0, values * weight, 0.0)), weight.sum())


def masked_mean(values: Float[Array, " b"], weight: Float[Array, " b"]):
    """Weighted mean of the samples; 0, and gradient 0, when all weights are 0."""
    return divided(masked_sums(values, weight))


def divided(sums: Sums) -> Float[Array, ""]:
    """Gives total / weight; 0, and gradient 0, where the weight is 0."""
    return sums.total / jnp.where(sums.weight > 0, sums.weight, 1.0)
