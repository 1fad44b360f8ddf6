"""One training step, as a pure function of the state and a batch of stored codes.

Augmentation, forward pass, loss, gradient and optimiser are one compiled program. Its
randomness is a function of (seed, global sample position, view). What contrast asks of
a step is in `simclr.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from brainjax.augment import Augmentation, view_keys
from brainjax.models.pure import run
from brainjax.optim import skip_nonfinite
from brainjax.parallel import batch_sharding, replicated
from brainjax.tasks import Task
from brainjax.train.state import Blueprint, State
from brainjax.train.views import drop_sequences, single_views, stored_volumes

Update = Callable[[State, Any], tuple[State, dict]]


def make_finetune_update(
    blueprint: Blueprint,
    augmentation: Augmentation,
    task: Task,
    *,
    seed: int,
    sequence_dropout: float = 0.0,
) -> Update:
    """Compiles the supervised step of one task.

    sequence_dropout: chance of leaving out a sequence of a case.

    The step takes a batch as the pretraining step does, with `{"targets": [b],
    "weights": float32 [b]}`; a scan without a label has weight 0.
    """
    mesh = blueprint.mesh

    def loss_of(params, batch_stats, batch, *, seed):
        positions = batch["positions"]
        volumes = stored_volumes(batch, mesh)
        views = single_views(volumes, positions, augmentation, mesh, seed=seed)
        if sequence_dropout:
            views = drop_sequences(views, positions, rate=sequence_dropout, seed=seed)
        # View 1 of the same position is never drawn here: its key serves dropout.
        keys = view_keys(seed, positions, 1)
        outputs, batch_stats = run(
            blueprint.graphdef, params, batch_stats, views, keys=keys, train=True
        )
        return task.loss(outputs, batch["targets"], batch["weights"]), (batch_stats, {})

    def update(state, batch, seed):
        return descend(
            state, batch, loss_of=partial(loss_of, seed=seed), blueprint=blueprint
        )

    compiled = compile_update(update, blueprint, replicated(mesh))
    # An argument, so that runs that differ in their seed share a compiled program.
    given = np.uint32(seed)
    return lambda state, batch: compiled(state, batch, given)


class Outcome(NamedTuple):
    """What a step found: loss, statistics afterwards, metrics."""

    loss: Array
    batch_stats: Any
    metrics: dict


def descend(
    state: State, batch: dict, *, loss_of: Callable, blueprint: Blueprint
) -> tuple[State, dict]:
    """Takes one optimiser step on a batch that goes through the network at once."""
    slope = jax.value_and_grad(loss_of, has_aux=True)
    params = whole_parameters(state["params"], blueprint.mesh)
    (loss, (batch_stats, metrics)), gradients = slope(
        params, state["batch_stats"], batch
    )
    return move(state, Outcome(loss, batch_stats, metrics), gradients, blueprint)


def move(
    state: State, outcome: Outcome, gradients: Any, blueprint: Blueprint
) -> tuple[State, dict]:
    """Takes one optimiser step, or none where the loss or a gradient is not finite."""
    # A device needs no more of the gradient than of the parameters it keeps.
    places = blueprint.shardings["params"]
    gradients = jax.lax.with_sharding_constraint(gradients, places)
    norm = optax.tree.norm(gradients)
    transform, schedule = blueprint.optimizer
    changes, opt = transform.update(gradients, state["opt"], state["params"])
    moved = {
        **state,
        "params": optax.apply_updates(state["params"], changes),
        "batch_stats": outcome.batch_stats,
        "opt": opt,
        "step": state["step"] + 1,
    }
    finite = jnp.isfinite(outcome.loss) & jnp.isfinite(norm)
    after = skip_nonfinite(moved, state, finite)
    metrics = {
        **outcome.metrics,
        "loss": outcome.loss,
        "gradient_norm": norm,
        "learning_rate": schedule(state["step"] - state["skipped"]),
        "skipped": after["skipped"],
        "skipped_in_a_row": after["skipped_in_a_row"],
    }
    return after, metrics


def whole_parameters(params: Any, mesh: Mesh) -> Any:
    """Gives parameters that every device holds whole while it uses them.

    Left to itself, XLA splits products by "fsdp" and gathers activations, 24 times as
    many bytes for ViT-B: batch and parameters are split over the same axis.
    """
    if mesh.shape["fsdp"] == 1:
        return params
    return jax.lax.with_sharding_constraint(params, replicated(mesh))


def compile_update(
    update: Callable[..., tuple[State, dict]], blueprint: Blueprint, *more: Any
) -> Callable[..., tuple[State, dict]]:
    """Compiles (state, batch, ...) -> state and metrics; more: places of the rest."""
    mesh = blueprint.mesh
    return jax.jit(
        update,
        in_shardings=(blueprint.shardings, batch_sharding(mesh), *more),
        out_shardings=(blueprint.shardings, replicated(mesh)),
        donate_argnums=0,
    )
