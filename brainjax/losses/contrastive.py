"""NT-Xent, the loss of SimCLR (Chen et al. 2020), that knows about subjects."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

TINY = 1e-12
"""Smallest squared length that is divided by: a zero vector stays zero."""


class Pairs(NamedTuple):
    """Similarities of both views of n scans; rows n.. are the second views.

    Attributes:
        cosines: every view with every view.
        positive: the one other view of the same scan.
        negative: views of other subjects. A view of another scan of the same subject
            is neither.
    """

    cosines: Float[Array, "m m"]
    positive: Bool[Array, "m m"]
    negative: Bool[Array, "m m"]


def ntxent(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    subjects: Int[Array, " n"],
    *,
    temperature: float = 0.1,
) -> Float[Array, ""]:
    """Mean over 2n views of -log p(the same scan's other view).

    The competitors of a view are the views of *other subjects*: two scans of one
    subject are never each other's negatives. A view without competitors gives 0 and
    no gradient. Identical embeddings of n subjects give log(2n - 1).

    Args:
        first: embeddings of the first views, of any length (normalised here).
        second: embeddings of the second views of the same scans.
        subjects: which subject a scan is of, equal for equal subjects.
        temperature: the cosines are divided by it; 0.01 and above stay finite.

    Returns:
        The loss, in nats, at least in float32.
    """
    cosines, positive, negative = pair_up(first, second, subjects)
    logits = cosines / temperature
    # The positive is always among the candidates, so the largest is finite.
    candidates = jnp.where(positive | negative, logits, -jnp.inf)
    own = jnp.sum(jnp.where(positive, logits, 0.0), axis=1)
    return jnp.mean(jax.nn.logsumexp(candidates, axis=1) - own)


def contrastive_metrics(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    subjects: Int[Array, " n"],
) -> dict[str, Float[Array, ""]]:
    """How well the two views of a scan find each other.

    Returns:
        "positive_similarity" and "negative_similarity", mean cosines; "top1", the
        share of views whose other view is nearer than every view of other subjects
        (a tie does not count). 0 where there is nothing to average.
    """
    cosines, positive, negative = pair_up(first, second, subjects)
    own = jnp.sum(jnp.where(positive, cosines, 0.0), axis=1)
    rival = jnp.max(jnp.where(negative, cosines, -jnp.inf), axis=1)
    has_rival = negative.any(axis=1)
    count = jnp.maximum(negative.sum(), 1)
    return {
        "positive_similarity": own.mean(),
        "negative_similarity": jnp.sum(jnp.where(negative, cosines, 0.0)) / count,
        "top1": jnp.sum((own > rival) & has_rival) / jnp.maximum(has_rival.sum(), 1),
    }


def pair_up(
    first: Float[Array, "n d"], second: Float[Array, "n d"], subjects: Int[Array, " n"]
) -> Pairs:
    """Cosines of all views, and which of them are positive and negative."""
    views = unit(jnp.concatenate([first, second]))
    # A bfloat16 product would be off by several per cent at temperature 0.01.
    cosines = jnp.matmul(views, views.T, precision=jax.lax.Precision.HIGHEST)
    scans = jnp.tile(jnp.arange(first.shape[0]), 2)
    owners = jnp.tile(subjects, 2)
    other_view = ~jnp.eye(scans.size, dtype=bool)
    positive = (scans[:, None] == scans[None, :]) & other_view
    return Pairs(cosines, positive, owners[:, None] != owners[None, :])


def unit(vectors: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Vectors at length one, in float32 or better; zero stays zero, differentiably."""
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, TINY))


def has_negatives(subjects) -> bool:
    """Whether a batch holds two subjects; else its loss is 0 and teaches nothing."""
    return np.unique(np.asarray(subjects)).size > 1
