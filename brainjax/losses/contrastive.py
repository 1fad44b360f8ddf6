"""NT-Xent, the loss of SimCLR (Chen et al. 2020), that knows about subjects.

The plain form: every view with every view in one matrix. It is the twin that the forms
of `contrast` are held against, in value and gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import choice

TINY = 1e-12
"""Smallest squared length that is divided by: a zero vector stays zero."""

NEGATIVES = ("between", "within")
"""Who competes with the other view of a scan: see `ntxent`."""


class Pairs(NamedTuple):
    """Similarities of both views of n scans; rows n.. are the second views.

    Attributes:
        cosines: every view with every view.
        positive: the one other view of the same scan.
        negative: the competitors. A view may be neither.
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
    negatives: str = "between",
) -> Float[Array, ""]:
    """Mean over 2n views of -log p(the same scan's other view).

    The competitors of a view are, with negatives

    - "between": the views of *other subjects*: two scans of one subject are never each
      other's negatives. Identical embeddings of n subjects give log(2n - 1);
    - "within": the views of the *other crops of the same scan* (CT-FM, Pai et al.
      2025). A row is then a pair of views of one crop, and the ids name scans.

    A view without competitors gives 0 and no gradient.

    Args:
        first: embeddings of the first views, of any length (normalised here).
        second: embeddings of the second views of the same scans.
        subjects: which subject a scan is of ("within": which scan a crop is of), equal
            for equal subjects.
        temperature: the cosines are divided by it; 0.01 and above stay finite.
        negatives: "between" or "within".

    Returns:
        The loss, in nats, at least in float32.

    Raises:
        InputRefusedError: a temperature that is not positive, or other negatives.
    """
    check_choices(temperature, negatives)
    return loss_of(pair_up(first, second, subjects, negatives), temperature)


def contrastive_metrics(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    subjects: Int[Array, " n"],
    *,
    negatives: str = "between",
) -> dict[str, Float[Array, ""]]:
    """How well the two views of a scan find each other; the arguments of `ntxent`.

    Returns:
        "positive_similarity" and "negative_similarity", mean cosines; "top1", the
        share of the views with competitors whose other view is nearer than every
        competitor (a tie, to rounding, does not count). 0 where there is nothing to
        average.
    """
    return metrics_of(pair_up(first, second, subjects, negatives))


def check_choices(temperature: float, negatives: str) -> None:
    """Refuses a temperature that is not positive, and unknown negatives."""
    choice(negatives, NEGATIVES, "negatives")
    if not temperature > 0:
        raise InputRefusedError(f"temperature: wanted > 0, got {temperature}")


def loss_of(pairs: Pairs, temperature: float) -> Float[Array, ""]:
    """The mean over views of -log p(positive)."""
    cosines, positive, negative = pairs
    logits = cosines / temperature
    # The positive is always among the candidates, so the largest is finite.
    candidates = jnp.where(positive | negative, logits, -jnp.inf)
    own = jnp.sum(jnp.where(positive, logits, 0.0), axis=1)
    return jnp.mean(jax.nn.logsumexp(candidates, axis=1) - own)


def metrics_of(pairs: Pairs) -> dict[str, Float[Array, ""]]:
    """Mean cosines, and how often the positive is the nearest."""
    cosines, positive, negative = pairs
    own = jnp.sum(jnp.where(positive, cosines, 0.0), axis=1)
    rival = jnp.max(jnp.where(negative, cosines, -jnp.inf), axis=1)
    has_rival = negative.any(axis=1)
    # Counted in the type of the cosines: 65,536 views make more pairs than int32 holds.
    count = jnp.maximum(jnp.sum(negative, dtype=cosines.dtype), 1)
    return {
        "positive_similarity": own.mean(),
        "negative_similarity": jnp.sum(jnp.where(negative, cosines, 0.0)) / count,
        "top1": jnp.sum(beats(own, rival) & has_rival)
        / jnp.maximum(has_rival.sum(), 1),
    }


def beats(own: Float[Array, " m"], rival: Float[Array, " m"]) -> Bool[Array, " m"]:
    """Whether the positive is nearer than the nearest competitor, beyond rounding.

    Else a collapsed encoder, all views alike, would seem to find some or all of them,
    by the order that a device adds up in.
    """
    return own - rival > 32 * jnp.finfo(own.dtype).eps


def pair_up(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    subjects: Int[Array, " n"],
    negatives: str = "between",
) -> Pairs:
    """Cosines of all views, and which of them are positive and negative."""
    views = unit(jnp.concatenate([first, second]))
    # A bfloat16 product would be off by several per cent at temperature 0.01.
    cosines = jnp.matmul(views, views.T, precision=jax.lax.Precision.HIGHEST)
    scans = jnp.tile(jnp.arange(first.shape[0]), 2)
    owners = jnp.tile(subjects, 2)
    other_view = ~jnp.eye(scans.size, dtype=bool)
    same_scan = scans[:, None] == scans[None, :]
    same_owner = owners[:, None] == owners[None, :]
    negative = same_owner & ~same_scan if negatives == "within" else ~same_owner
    return Pairs(cosines, same_scan & other_view, negative)


def unit(vectors: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Vectors at length one, in float32 or better; zero stays zero, differentiably."""
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squared, TINY))


def has_negatives(subjects, negatives: str = "between") -> bool:
    """Whether any view of a batch competes; else its loss is 0 and teaches nothing.

    "between" needs two subjects, "within" two rows (crops) of one scan.
    """
    ids = np.asarray(subjects)
    different = np.unique(ids).size
    return different < ids.size if negatives == "within" else different > 1
