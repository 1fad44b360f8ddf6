"""The contrastive loss of the training step: one question, several ways to answer."""

from typing import NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from brainjax.losses.contrastive import check_choices, loss_of, metrics_of, pair_up
from brainjax.models import choice

FORMS = ("auto", "plain")


class Contrast(NamedTuple):
    """A contrastive loss and how well the views of a scan find each other.

    Attributes:
        loss: `ntxent`, in nats.
        metrics: those of `contrastive_metrics`; no gradient goes through them.
    """

    loss: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


def contrast(
    first: Float[Array, "n d"],
    second: Float[Array, "n d"],
    subjects: Int[Array, " n"],
    *,
    temperature: float = 0.1,
    negatives: str = "between",
    form: str = "auto",
    mesh: Mesh | None = None,
    block: int = 1024,
) -> Contrast:
    """NT-Xent and its metrics; the arguments and errors of `ntxent`.

    Args:
        form: how it is computed.
        mesh: over whose axes the rows are sharded; None for one device.
        block: rows and columns of a block of cosines.
    """
    check_choices(temperature, negatives)
    choice(form, FORMS, "form")
    pairs = pair_up(first, second, subjects, negatives)
    stopped = jax.tree.map(jax.lax.stop_gradient, metrics_of(pairs))
    return Contrast(loss_of(pairs, temperature), stopped)
