"""The SimCLR step: two views of every crop, NT-Xent on their projections.

At once, or by gradient caching (`caching.py`) where the batch is larger than memory.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from brainjax.augment import Augmentation
from brainjax.errors import InputRefusedError
from brainjax.losses import contrast
from brainjax.losses.contrast import choose_form
from brainjax.losses.contrastive import check_choices
from brainjax.models.encoded import at_least
from brainjax.models.pure import run
from brainjax.parallel import batch_sharding, replicated
from brainjax.train.caching import (
    ENCODER,
    count_micro_batches,
    make_passes,
    pull,
    unweave,
    weave,
)
from brainjax.train.loop import InFlight
from brainjax.train.state import Blueprint, State
from brainjax.train.step import (
    Outcome,
    Update,
    compile_update,
    descend,
    move,
    whole_parameters,
)
from brainjax.train.views import paired_views, stored_volumes


class Contrasting:
    """The SimCLR step, taken apart: views, features, projections, loss.

    Args:
      blueprint: of the state.
      augmentation: of the views.
      seed: of the views.
      temperature, negatives, form: as in `losses.contrast`.
      crops: boxes of a scan, each seen by two views; with 1 every view has its own.

    Raises:
      InputRefusedError: the temperature is not positive, an unknown form or negatives,
        a form or crops that do not suit the devices or the negatives.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        augmentation: Augmentation,
        *,
        seed: int,
        temperature: float,
        negatives: str = "between",
        crops: int = 1,
        form: str = "auto",
    ):
        devices = blueprint.mesh.size
        try:  # Now, not when the first step is traced and the scans are loaded.
            check_choices(temperature, negatives)
            choose_form(form, 2 * devices, devices)
        except InputRefusedError as error:
            raise InputRefusedError(f"config.loss.{error}") from None
        self.crops = at_least(1, crops, "config.loss.crops")
        if negatives == "within" and crops < 2:
            raise InputRefusedError(
                "config.loss.crops: wanted 2 or more for negatives within a scan, "
                f"got {crops}"
            )
        self.blueprint, self.mesh = blueprint, blueprint.mesh
        self.augmentation = augmentation
        self.negatives = negatives
        self.draw = partial(paired_views, augmentation=augmentation, seed=seed)
        self.contrast = partial(
            contrast,
            temperature=temperature,
            negatives=negatives,
            form=form,
            mesh=self.mesh,
        )

    def compile(self, micro_batch: int = 0) -> Update:
        """Gives the step: a state and a batch to the new state and scalars.

        A batch is `{"volumes": [b,x,y,z] as stored, "subjects": int32 [b], "positions":
        int32 [b]}`, or in place of the volumes `{"dataset": [n,x,y,z], "rows": int32
        [b]}`.

        micro_batch: scans that are embedded at a time, over all devices (gradient
        caching, see `caching.py`); 0 embeds all at once.
        """
        if micro_batch:
            return CachedUpdate(self, micro_batch)

        def loss_of(params, batch_stats, batch):
            views = self.views(batch, self.mesh)
            projected, batch_stats = run(
                self.blueprint.graphdef, params, batch_stats, views, train=True
            )
            return self.compare(projected, batch_stats, batch)

        step = partial(descend, loss_of=loss_of, blueprint=self.blueprint)
        return compile_update(step, self.blueprint)

    def views(self, batch: dict, mesh) -> Float[Array, "v x y z 1"]:
        """Gives all views of a batch, those of a scan side by side."""
        volumes = stored_volumes(batch, self.mesh, local=mesh is None)
        return self.draw(volumes, batch["positions"], mesh=mesh, crops=self.crops)

    def embed(self, params, batch_stats, batch: dict, mesh=None):
        """Gives the features [b, v, w] of a batch's views, and the statistics."""
        views = self.views(batch, mesh)
        graphdef = self.blueprint.graphdef
        features, batch_stats = run(
            graphdef, params, batch_stats, views, train=True, method="encode"
        )
        count = batch["positions"].shape[0]
        return features.reshape(count, -1, features.shape[-1]), batch_stats

    def project(self, others, features, encoder, batch_stats, batch: dict):
        """Gives the loss of the features of all views, statistics and metrics.

        others: the parameters that are not the encoder's.
        """
        projected, batch_stats = run(
            self.blueprint.graphdef,
            {**others, ENCODER: encoder},
            batch_stats,
            features.reshape(-1, features.shape[-1]),
            train=True,
            method="project",
        )
        return self.compare(projected, batch_stats, batch)

    def compare(self, projected: Float[Array, "v d"], batch_stats, batch: dict):
        """Gives the loss of projected views, and statistics and metrics with it."""
        pairs = projected.reshape(-1, 2, projected.shape[-1])
        # Within a scan, a scan is its own kind, whoever its subject is.
        ids = batch["positions" if self.negatives == "within" else "subjects"]
        result = self.contrast(pairs[:, 0], pairs[:, 1], jnp.repeat(ids, self.crops))
        return result.loss, (batch_stats, result.metrics)


def make_pretrain_update(
    blueprint: Blueprint,
    augmentation: Augmentation,
    *,
    micro_batch: int = 0,
    **loss: Any,
) -> Update:
    """Compiles the SimCLR step: two views of every crop, NT-Xent on their projections.

    The arguments are those of `Contrasting` and of its `compile`.
    """
    return Contrasting(blueprint, augmentation, **loss).compile(micro_batch)


class CachedUpdate:
    """The step by two passes over micro-batches, held on the device or streamed twice.

    A batch is a dict, or streamed: with `first` and `second`, iterators of the batches'
    micro-batches. `lower` and `trace` are those of the compiled step on a dict.
    """

    def __init__(self, parts: Contrasting, micro_batch: int):
        self._held = compile_update(
            partial(_cached_step, parts=parts, micro_batch=micro_batch), parts.blueprint
        )
        self._streamed = _StreamedUpdate(parts)
        self.lower, self.trace = self._held.lower, self._held.trace

    def __call__(self, state: State, batch: Any) -> tuple[State, dict]:
        update = self._held if isinstance(batch, dict) else self._streamed
        return update(state, batch)


def _cached_step(
    state: State, batch: dict, *, parts: Contrasting, micro_batch: int
) -> tuple[State, dict]:
    mesh, places = parts.mesh, parts.blueprint.shardings["params"][ENCODER]
    specs = jax.tree.map(lambda place: place.spec, places)
    size = batch["positions"].shape[0]
    count = count_micro_batches(size, micro_batch, mesh.size)
    passes = make_passes(parts.embed, count=count, mesh=mesh, specs=specs)
    params, stats = whole_parameters(state["params"], mesh), state["batch_stats"]
    features, after = passes.first(params, stats, batch)
    found = _project(parts, params, features, after, batch)
    slope = passes.second(params, stats, batch, found.cotangents)
    gradients = {**found.others, ENCODER: slope}
    return move(state, found.outcome, gradients, parts.blueprint)


class _StreamedUpdate:
    """The cached step on micro-batches that come from the host, twice each.

    Several small programs, since none holds the batch.
    """

    def __init__(self, parts: Contrasting):
        blueprint, mesh = parts.blueprint, parts.mesh
        places, batched = blueprint.shardings, batch_sharding(mesh)
        encoder = places["params"][ENCODER]
        embed = partial(parts.embed, mesh=mesh)

        def add(total, params, stats, micro, cotangent):
            slope = pull(embed, params, stats, micro, cotangent)
            # The sum is donated onwards; a scalar says when this one is done.
            return jax.tree.map(jnp.add, total, slope), cotangent.sum()

        def join(params, stats, features, ids):
            batch = {name: _weave_rows(rows) for name, rows in ids.items()}
            found = _project(parts, params, weave(jnp.stack(features)), stats, batch)
            # One array each: the host must not take apart what is on many devices.
            slopes = tuple(
                jax.lax.with_sharding_constraint(slope, batched)
                for slope in unweave(found.cotangents, len(features))
            )
            return found._replace(cotangents=slopes)

        def finish(state, others, encoder, outcome):
            return move(state, outcome, {**others, ENCODER: encoder}, blueprint)

        # Once a step: gathered by each micro-batch, they would be sent every time.
        self._whole = jax.jit(lambda params: params, out_shardings=replicated(mesh))
        self._embed = jax.jit(embed, in_shardings=(replicated(mesh), None, batched))
        self._join = jax.jit(join)
        self._nothing = jax.jit(
            lambda params: jax.tree.map(jnp.zeros_like, params[ENCODER]),
            out_shardings=encoder,
        )
        self._add = jax.jit(
            add, donate_argnums=0, out_shardings=(encoder, replicated(mesh))
        )
        self._finish = jax.jit(
            finish, donate_argnums=0, out_shardings=(places, replicated(mesh))
        )

    def __call__(self, state: State, batch: Any) -> tuple[State, dict]:
        params, first = self._whole(state["params"]), state["batch_stats"]
        stats, features, started = first, [], InFlight()
        ids: dict[str, list] = {"subjects": [], "positions": []}
        for micro in batch.first:
            rows, stats = self._embed(params, stats, micro)
            features.append(rows)
            started.add(rows)
            for name, found in ids.items():
                found.append(micro[name])
        found = self._join(params, stats, features, ids)
        total = self._nothing(params)
        for micro, cotangent in zip(batch.second, found.cotangents, strict=True):
            total, done = self._add(total, params, first, micro, cotangent)
            started.add(done)
        return self._finish(state, found.others, total, found.outcome)


class _Projected(NamedTuple):
    """The loss of all features, and its gradient.

    others: of the parameters that are not the encoder's; cotangents: of the features.
    """

    outcome: Outcome
    others: Any
    cotangents: Any


def _project(parts: Contrasting, params, features, batch_stats, batch) -> _Projected:
    """Takes the loss of all features, and its gradient back to them."""
    others = {name: tree for name, tree in params.items() if name != ENCODER}
    slope = jax.value_and_grad(parts.project, argnums=(0, 1), has_aux=True)
    (loss, (after, metrics)), (others, cotangents) = slope(
        others, features, params[ENCODER], batch_stats, batch
    )
    return _Projected(Outcome(loss, after, metrics), others, cotangents)


def _weave_rows(parts: list[Array]) -> Array:
    """Gives rows [b] in the order of the batch from those of its micro-batches."""
    return jnp.stack(parts, axis=1).reshape(-1)
