"""Optimisers, their schedule, and what does not move.

Paths of parameters are written with slashes: "encoder/blocks/mlp/kernel". A prefix such
as "encoder" stands for everything below it.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from brainjax.errors import InputRefusedError

DECAYED = ("kernel",)
"""Names of the matrices that weight decay acts on.

A name, not a rank: stacked blocks give biases and norms a second dimension. Biases,
norm scales, position embeddings and tokens are therefore never decayed.
"""


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
    frozen: Sequence[str] = (),
    multipliers: Mapping[str, float] | None = None,
) -> Optimizer:
    """Makes a row of OPTIMIZERS with clipping, schedule, decay and frozen parts.

    peak, warmup, steps, final: as in `warmup_cosine`. weight_decay: None is the row's
    own (adamw 0.05, adam 0). clip: largest global norm of the gradient of what is
    trained. frozen: prefixes that do not move, are not decayed and have no optimiser
    state. multipliers: learning rate times this, by prefix; the longest one counts.

    Raises InputRefusedError for an unknown name; for an unknown prefix when the
    transform's `init` sees the parameters.
    """
    if name not in OPTIMIZERS:
        raise InputRefusedError(f"optimizer: wanted one of {[*OPTIMIZERS]}, got {name}")
    schedule = warmup_cosine(peak=peak, warmup=warmup, steps=steps, final=final)
    factors = dict(multipliers or {})
    trained = optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        OPTIMIZERS[name](b1=b1, b2=b2, weight_decay=weight_decay),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(lambda updates, _: _multiply(updates, factors)),
    )

    def label(params: Any) -> Any:
        check_prefixes(params, [*frozen, *factors])
        return _map_paths(
            lambda path, _: "frozen" if _longest(path, frozen) else "trained", params
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


def check_prefixes(params: Any, prefixes: Sequence[str]) -> None:
    """Raises InputRefusedError, with the near miss, for a prefix nothing is under."""
    paths: list[str] = []
    _map_paths(lambda path, _: paths.append(path), params)
    for prefix in prefixes:
        if not any(_under(path, prefix) for path in paths):
            parts = (path.split("/") for path in paths)
            known = {"/".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
            near = difflib.get_close_matches(prefix, sorted(known), 1, cutoff=0.0)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputRefusedError(
                f"parameters: wanted a path, got {prefix}, which none has{hint}"
            )


def _adamw(
    *, b1: float, b2: float, weight_decay: float | None
) -> optax.GradientTransformation:
    decay = 0.05 if weight_decay is None else weight_decay
    return optax.chain(
        optax.scale_by_adam(b1, b2), optax.add_decayed_weights(decay, mask=_decayed)
    )


def _adam(
    *, b1: float, b2: float, weight_decay: float | None
) -> optax.GradientTransformation:
    if weight_decay:
        raise InputRefusedError(
            f"optimizer adam: wanted weight_decay 0, got {weight_decay}; use adamw"
        )
    return optax.scale_by_adam(b1, b2)


OPTIMIZERS = {"adamw": _adamw, "adam": _adam}


def _stand_still() -> optax.GradientTransformation:
    # Minus zero: adding plus zero would turn a parameter of -0.0 into 0.0.
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)
    )


def _decayed(params: Any) -> Any:
    return _map_paths(lambda path, _: path.split("/")[-1] in DECAYED, params)


def _multiply(updates: Any, factors: Mapping[str, float]) -> Any:
    return _map_paths(
        lambda path, u: u * factors.get(_longest(path, factors) or "", 1.0), updates
    )


def _longest(path: str, prefixes: Sequence[str] | Mapping[str, float]) -> str | None:
    return max((p for p in prefixes if _under(path, p)), key=len, default=None)


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def _map_paths(function: Any, tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), leaf
        ),
        tree,
    )
