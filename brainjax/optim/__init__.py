"""Optimisers, their schedule, and what does not move.

Paths of parameters are written with slashes: "encoder/blocks/mlp/kernel". A prefix such
as "encoder" stands for everything below it. The optimisers themselves: `rows.py`; the
rate of an encoder's layers: `layers.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from brainjax.errors import InputRefusedError
from brainjax.optim.layers import layer_factors
from brainjax.optim.paths import check_prefixes, longest, map_paths
from brainjax.optim.rows import MOMENTUM, OPTIMIZERS

__all__ = [
    "OPTIMIZERS",
    "Optimizer",
    "check_prefixes",
    "make_optimizer",
    "skip_nonfinite",
    "warmup_cosine",
]


class Optimizer(NamedTuple):
    """transform: the optax transform; schedule: learning rate of an update number."""

    transform: optax.GradientTransformation
    schedule: optax.Schedule


def make_optimizer(
    *,
    name: str = "adamw",
    peak: float = 1e-3,
    warmup: int = 0,
    steps: int,
    final: float = 0.0,
    weight_decay: float | None = None,
    clip: float | None = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    momentum: float | None = None,
    frozen: Sequence[str] = (),
    multipliers: Mapping[str, float] | None = None,
    layer_decay: float = 1.0,
) -> Optimizer:
    """Makes a row of OPTIMIZERS with clipping, schedule, decay and frozen parts.

    peak, warmup, steps, final: as in `warmup_cosine`. weight_decay: None is the row's
    own (adamw and muon 0.05, adam 0, lars 1e-6). b1, b2: of Adam's two means, in muon
    too. momentum: of lars and muon; None is the row's own (0.9, 0.95). clip: largest
    global norm of the gradient of what is trained. frozen: prefixes that do not move,
    are not decayed and have no optimiser state. multipliers: learning rate times this,
    by prefix; the longest one counts. layer_decay: as in `layers.py`, of an encoder's
    layers; 1 is the same rate for all.

    Raises InputRefusedError for an unknown name; for an unknown prefix, or an
    encoder without an order of layers, when the transform's `init` sees the parameters.
    """
    if name not in OPTIMIZERS:
        raise InputRefusedError(f"optimizer: wanted one of {[*OPTIMIZERS]}, got {name}")
    schedule = warmup_cosine(peak=peak, warmup=warmup, steps=steps, final=final)
    factors = dict(multipliers or {})
    if momentum is not None and name not in MOMENTUM:
        raise InputRefusedError(
            f"optimizer {name}: wanted no momentum (it has b1), got {momentum}"
        )
    rate = optax.scale_by_learning_rate(schedule)
    trained = optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        *OPTIMIZERS[name](
            rate, b1=b1, b2=b2, weight_decay=weight_decay, momentum=momentum
        ),
        optax.stateless(lambda updates, _: _multiply(updates, factors)),
    )
    if layer_decay != 1:
        trained = optax.chain(trained, _decay_layers(layer_decay))

    def label(params: Any) -> Any:
        check_prefixes(params, [*frozen, *factors])
        return map_paths(
            lambda path, _: "frozen" if longest(path, frozen) else "trained", params
        )

    transform = optax.partition({"trained": trained, "frozen": _stand_still()}, label)
    return Optimizer(optax.GradientTransformation(*transform), schedule)


def warmup_cosine(
    *, peak: float, warmup: int, steps: int, final: float = 0.0
) -> optax.Schedule:
    """Gives the learning rate of update number `count` (from 0).

    It climbs in a line to `peak` at update `warmup - 1`, so that no update is wasted on
    0, and falls as a cosine from `peak` at `warmup` to `final` x peak at `steps`.
    """
    if not 0 <= warmup < steps:
        raise InputRefusedError(
            f"schedule: wanted 0 <= warmup < steps, got warmup {warmup}, steps {steps}"
        )

    def schedule(count: Any) -> Array:
        ramp = jnp.minimum(1.0, (count + 1) / max(warmup, 1))
        progress = jnp.clip((count - warmup) / (steps - warmup), 0.0, 1.0)
        fall = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return peak * ramp * fall

    return schedule


def skip_nonfinite(
    new: dict[str, Any], old: dict[str, Any], finite: Bool[Array, ""]
) -> dict[str, Any]:
    """Gives the new state when `finite`, else the old one with the next "step".

    Both are states with "step", "skipped" and "skipped_in_a_row" (int32). A skipped
    step moves no parameter, no optimiser state and no statistic, and is counted.
    """
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    skipped = 1 - finite.astype(jnp.int32)
    return {
        **kept,
        "step": new["step"],
        "skipped": old["skipped"] + skipped,
        "skipped_in_a_row": (old["skipped_in_a_row"] + 1) * skipped,
    }


def _stand_still() -> optax.GradientTransformation:
    # Minus zero: adding plus zero would turn a parameter of -0.0 into 0.0.
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)
    )


def _decay_layers(decay: float) -> optax.GradientTransformation:
    def start(params: Any) -> optax.EmptyState:
        layer_factors(params, decay)
        return optax.EmptyState()

    def slow(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        factors = layer_factors(updates, decay)
        return jax.tree.map(jnp.multiply, updates, factors), state

    return optax.GradientTransformation(start, slow)


def _multiply(updates: Any, factors: Mapping[str, float]) -> Any:
    return map_paths(
        lambda path, u: u * factors.get(longest(path, factors) or "", 1.0), updates
    )
