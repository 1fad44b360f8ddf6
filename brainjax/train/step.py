"""One training step, as a pure function of the state and a batch of stored codes.

Augmentation, forward pass, loss, gradient and optimiser are one compiled program. Its
randomness is a function of (seed, global sample position, view).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from brainjax.augment import Augmentation, random_views, view_keys
from brainjax.errors import InputRefusedError
from brainjax.losses import contrastive_metrics, ntxent
from brainjax.models.pure import run
from brainjax.optim import skip_nonfinite
from brainjax.parallel import AXES, batch_sharding, replicated
from brainjax.tasks import Task
from brainjax.train.state import Blueprint, State

Update = Callable[[State, dict], tuple[State, dict]]


def make_pretrain_update(
    blueprint: Blueprint,
    augmentation: Augmentation,
    *,
    seed: int,
    temperature: float,
) -> Update:
    """Compiles the SimCLR step: two views of every scan, NT-Xent on their projections.

    The step takes `{"volumes": [b,x,y,z] as stored, "subjects": int32 [b], "positions":
    int32 [b]}` and gives the new state and scalars.

    Raises InputRefusedError where the temperature is not positive.
    """
    if not temperature > 0:
        raise InputRefusedError(
            f"config.loss.temperature: wanted > 0, got {temperature}"
        )

    def loss_of(params, batch_stats, views, subjects):
        projected, batch_stats = run(
            blueprint.graphdef, params, batch_stats, views, train=True
        )
        first, second = jnp.split(projected, 2)
        loss = ntxent(first, second, subjects, temperature=temperature)
        metrics = contrastive_metrics(first, second, subjects)
        return loss, (batch_stats, metrics)

    def update(state: State, batch: dict) -> tuple[State, dict]:
        views = [
            augment(batch, augmentation, blueprint.mesh, seed=seed, view=view)
            for view in (0, 1)
        ]
        arguments = (jnp.concatenate(views), batch["subjects"])
        return _descend(state, loss_of, arguments, blueprint)

    return _compile(update, blueprint)


def make_finetune_update(
    blueprint: Blueprint,
    augmentation: Augmentation,
    task: Task,
    *,
    seed: int,
) -> Update:
    """Compiles the supervised step of one task.

    The step takes `{"volumes", "positions", "targets": [b], "weights": float32 [b]}`;
    a scan without a label has weight 0.
    """

    def loss_of(params, batch_stats, views, keys, targets, weights):
        outputs, batch_stats = run(
            blueprint.graphdef, params, batch_stats, views, keys=keys, train=True
        )
        return task.loss(outputs, targets, weights), (batch_stats, {})

    def update(state: State, batch: dict) -> tuple[State, dict]:
        positions = batch["positions"]
        views = augment(batch, augmentation, blueprint.mesh, seed=seed, view=0)
        # View 1 of the same position is never drawn here: its key serves dropout.
        keys = view_keys(seed, positions, 1)
        arguments = (views, keys, batch["targets"], batch["weights"])
        return _descend(state, loss_of, arguments, blueprint)

    return _compile(update, blueprint)


def augment(
    batch: dict,
    augmentation: Augmentation,
    mesh: jax.sharding.Mesh,
    *,
    seed: int,
    view: int,
) -> Float[Array, "b x y z 1"]:
    """Gives one augmented view of every scan; each device works on its own scans."""
    batched = PartitionSpec(AXES)

    # No gradient passes here, so nothing is lost by leaving the replication check out.
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(batched, batched),
        out_specs=batched,
        check_vma=False,
    )
    def local(volumes, positions):
        return random_views(augmentation, volumes, view_keys(seed, positions, view))

    return local(batch["volumes"], batch["positions"])


def _descend(
    state: State,
    loss_of: Callable,
    arguments: tuple,
    blueprint: Blueprint,
) -> tuple[State, dict]:
    """Takes one optimiser step, or none where the loss or a gradient is not finite."""
    (loss, (batch_stats, metrics)), gradients = jax.value_and_grad(
        loss_of, has_aux=True
    )(state["params"], state["batch_stats"], *arguments)
    norm = optax.tree.norm(gradients)
    transform, schedule = blueprint.optimizer
    changes, opt = transform.update(gradients, state["opt"], state["params"])
    moved = {
        **state,
        "params": optax.apply_updates(state["params"], changes),
        "batch_stats": batch_stats,
        "opt": opt,
        "step": state["step"] + 1,
    }
    after = skip_nonfinite(moved, state, jnp.isfinite(loss) & jnp.isfinite(norm))
    metrics = {
        **metrics,
        "loss": loss,
        "gradient_norm": norm,
        "learning_rate": schedule(state["step"] - state["skipped"]),
        "skipped": after["skipped"],
        "skipped_in_a_row": after["skipped_in_a_row"],
    }
    return after, metrics


def _compile(update: Update, blueprint: Blueprint) -> Update:
    mesh = blueprint.mesh
    return jax.jit(
        update,
        in_shardings=(blueprint.shardings, batch_sharding(mesh)),
        out_shardings=(blueprint.shardings, replicated(mesh)),
        donate_argnums=0,
    )
