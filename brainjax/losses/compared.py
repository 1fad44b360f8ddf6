"""Probabilities of segmented volumes beside the truth, worked once for all terms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from brainjax.records.classes import UNKNOWN

Regions = Bool[np.ndarray, "r n"] | Bool[Array, "r n"]
"""Which class numbers (rows) lie in which regions (columns)."""


class Compared(NamedTuple):
    """Probabilities beside the truth, of a softmax that is worked once.

    n channels are classes or regions. m questions are asked of a voxel: which class it
    is (one), or whether it is in each region (n).

    Attributes:
        chances: probability of each channel.
        truth: which channels a voxel is in; in none where it is unknown.
        known: which voxels count.
        log_true: logarithm of the probability of the right answer.
        log_false: that of all other answers together.
        log_even: mean logarithm over the answers.
    """

    chances: Float[Array, "b x y z n"]
    truth: Bool[Array, "b x y z n"]
    known: Bool[Array, "b x y z"]
    log_true: Float[Array, "b x y z m"]
    log_false: Float[Array, "b x y z m"]
    log_even: Float[Array, "b x y z m"]


def compare(
    logits: Float[Array, "b x y z k"],
    labels: UInt8[Array, "b x y z"],
    *,
    regions: Regions | None = None,
    summed: bool = False,
    background: bool = True,
) -> Compared:
    """Lays logits beside class numbers.

    regions: table of overlapping regions, else class numbers are the channels.
    summed: whether logits are of classes, whose softmax is summed over each region; a
    region has some classes and not all. background: whether class 0 is a channel.
    """
    known = labels != UNKNOWN
    if regions is None:
        return _compare_classes(logits, labels, known, background)
    table = jnp.asarray(regions)
    truth = table[jnp.where(known, labels, 0)] & known[..., None]
    if summed:
        inside, outside = _summed_logs(logits, table), _summed_logs(logits, ~table)
    else:
        inside, outside = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return Compared(
        jnp.exp(inside),
        truth,
        known,
        log_true=jnp.where(truth, inside, outside),
        log_false=jnp.where(truth, outside, inside),
        log_even=(inside + outside) / 2,
    )


def _compare_classes(logits, labels, known, background) -> Compared:
    logs = jax.nn.log_softmax(logits)
    truth = labels[..., None] == jnp.arange(logits.shape[-1], dtype=labels.dtype)
    others = jax.nn.logsumexp(jnp.where(truth, -jnp.inf, logs), -1, keepdims=True)
    first = 0 if background else 1
    return Compared(
        jnp.exp(logs)[..., first:],
        truth[..., first:],
        known,
        log_true=jnp.where(truth, logs, 0.0).sum(-1, keepdims=True),
        log_false=others,
        log_even=logs.mean(-1, keepdims=True),
    )


def _summed_logs(logits: Array, table: Array) -> Array:
    logs = jax.nn.log_softmax(logits)
    regions = [jnp.where(column, logs, -jnp.inf) for column in table.T]
    # Not the logarithm of a sum: its slope is infinite where the sum underflows.
    return jnp.stack([jax.nn.logsumexp(region, -1) for region in regions], -1)


def region_probabilities(
    logits: Float[Array, "b x y z r"], regions: Regions
) -> Float[Array, "b x y z n"]:
    """Gives the softmax over classes, summed over those of each region."""
    return jax.nn.softmax(logits) @ jnp.asarray(regions, logits.dtype)
