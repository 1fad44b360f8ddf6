"""The contrastive loss of the training step: one question, four ways to answer."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from brainjax.errors import InputRefusedError
from brainjax.losses.blocks import Plan, Rivals, Views, block_up, meet_rivals
from brainjax.losses.contrastive import (
    beats,
    check_choices,
    loss_of,
    metrics_of,
    pair_up,
    unit,
)
from brainjax.models.encoded import at_least, choice

FORMS = ("auto", "plain", "blocks", "gather", "ring")

PLAIN_UP_TO = 1024
"""Views of a batch up to which "auto" holds the whole matrix on one device: 4 MiB."""

GATHER_UP_TO = 65536
"""Views of a batch up to which "auto" gathers all embeddings on every device; at 128
float32 numbers each they take 32 MiB there."""


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
    block: int | None = None,
) -> Contrast:
    """NT-Xent and its metrics; the arguments of `ntxent`, whose value it gives.

    The forms differ in what a device holds and what travels:

    - "plain": all cosines of 2n views with 2n views; for small batches;
    - "blocks": one device, one block of cosines at a time;
    - "gather": every device meets all embeddings, gathered, for its own rows;
    - "ring": the embeddings of one device after the other pass by, so that memory does
      not depend on the number of devices;
    - "auto": on one device "plain" up to 1,024 views (2n), else "blocks"; on several
      "gather" up to 65,536 views, else "ring".

    Args:
        form: one of these; all give the same value and gradient, to rounding.
        mesh: the mesh over all of whose axes the rows are sharded; None for one
            device.
        block: most rows and columns of a block of cosines; None: 1,024 on a CPU, 2,048
            on an accelerator, where more of them fit the cache and a launch costs more.

    Raises:
        InputRefusedError: what `ntxent` refuses, an unknown form, one that does not
            suit the number of devices, rows that these do not divide, or no block.
    """
    check_choices(temperature, negatives)
    devices = None if mesh is None else mesh.size
    form = choose_form(form, 2 * first.shape[0], devices)
    if form == "plain":
        pairs = pair_up(first, second, subjects, negatives)
        return _stopped(loss_of(pairs, temperature), metrics_of(pairs))
    axes = () if mesh is None or form == "blocks" else mesh.axis_names
    plan = Plan(temperature, negatives == "within", form, axes)
    block = _usual_block(mesh) if block is None else at_least(1, block, "block")
    if not axes:
        return _stopped(*_answer(first, second, subjects, plan, block))
    rows = PartitionSpec(axes)
    sharded = jax.shard_map(
        partial(_answer, plan=plan, block=block),
        mesh=mesh,
        in_specs=(rows, rows, rows),
        out_specs=PartitionSpec(),
    )
    return _stopped(*sharded(first, second, subjects))


def choose_form(form: str, views: int, devices: int | None) -> str:
    """Gives the form that "auto" stands for, or refuses one that does not suit.

    views: both views of all rows, on all devices; devices: of the mesh, None without.
    """
    choice(form, FORMS, "form")
    if form == "auto" and devices in (None, 1):
        return "plain" if views <= PLAIN_UP_TO else "blocks"
    if form == "auto":
        form = "gather" if views <= GATHER_UP_TO else "ring"
    if form == "blocks" and devices not in (None, 1):
        raise InputRefusedError(
            f"form blocks: wanted one device, got {devices}; use gather or ring"
        )
    if form in ("gather", "ring"):
        if devices is None:
            raise InputRefusedError(f"form {form}: wanted a mesh, got none")
        if views % (2 * devices):
            raise InputRefusedError(
                f"form {form}: {devices} devices do not divide {views // 2} pairs"
            )
    return form


def _usual_block(mesh: Mesh | None) -> int:
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return 1024 if platform == "cpu" else 2048


def _answer(first, second, subjects, plan: Plan, block: int):
    """Loss and metrics; first, second and subjects are the rows of this device."""
    n, one, two = first.shape[0], unit(first), unit(second)
    offset = lax.axis_index(plan.axes) * n if plan.axes else 0
    pairs = jnp.tile(offset + jnp.arange(n, dtype=jnp.int32), 2)
    views = Views(jnp.concatenate([one, two]), jnp.tile(subjects, 2), pairs)
    met = meet_rivals(block_up(views, block), plan)
    logsumexp, rivals = jax.tree.map(lambda leaf: leaf.reshape(-1)[: 2 * n], met)
    # The other view of a row lives where the row does: it needs no matrix.
    own = jnp.tile(jnp.sum(one * two, axis=1), 2)
    # -log(p) = log(1 + exp(rivals - own)); without rivals that is 0, and so its slope.
    losses = jnp.logaddexp(logsumexp - own / plan.temperature, 0)
    return _sum(losses, plan) / _sum(jnp.ones_like(losses), plan), _tell(
        own, rivals, plan
    )


def _tell(own: Float[Array, " m"], rivals: Rivals, plan: Plan) -> dict:
    """The metrics of `contrastive_metrics`, summed over all devices."""
    rivalled = rivals.count > 0
    won = rivalled & beats(own, rivals.best)
    one = jnp.ones_like(own)
    mean = {
        "positive_similarity": (own, one),
        "negative_similarity": (rivals.total, rivals.count),
        "top1": (won.astype(own.dtype), rivalled.astype(own.dtype)),
    }
    return {
        name: _sum(total, plan) / jnp.maximum(_sum(count, plan), 1)
        for name, (total, count) in mean.items()
    }


def _sum(values: Float[Array, " m"], plan: Plan) -> Float[Array, ""]:
    total = jnp.sum(values)
    return lax.psum(total, plan.axes) if plan.axes else total


def _stopped(loss: Float[Array, ""], metrics: dict) -> Contrast:
    return Contrast(loss, jax.tree.map(lax.stop_gradient, metrics))
