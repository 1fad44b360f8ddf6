"""A head on features that were encoded once: many draws of labels, one program.

A frozen encoder gives a scan the same features in every epoch. So they are encoded
once, without augmentation, and a head learns from all of them in every step, in one
compiled scan. Rows are filled up to a power of two with weight 0, and a program is
shared by all tasks whose loss is the same function: twenty draws compile once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Bool, Float

from brainjax.errors import InputRefusedError
from brainjax.models.pure import run, to_pure
from brainjax.optim import make_optimizer
from brainjax.tasks import Task
from brainjax.train.networks import Readout
from brainjax.train.shared_loss import SharedLoss

FEWEST_ROWS = 16
"""Rows are filled up to this, then to its doubles."""


class Labelled(NamedTuple):
    """Features of scans or cases, with their labels.

    Attributes:
      features: [n, w], or [n, s, w] of cases of s sequences.
      values: as `task.values` gives them, None where unknown.
      present: [n, s], which sequences a case has; None where all are there.
    """

    features: Float[np.ndarray, "n *s w"]
    values: Sequence[Any]
    present: Bool[np.ndarray, "n s"] | None = None


class FittedHead(NamedTuple):
    """A head that has learnt.

    Attributes:
      params: "head", and "fusion" where it has parameters, as a `Predictor` has them.
      predict: (features, present=None) -> outputs float32 [n, k] for `task.columns`.
      loss: training loss before every step, [steps].
      val_loss: the best validation loss; NaN without validation scans.
      best_step: the step it is of; the last without validation scans.
    """

    params: dict[str, Any]
    predict: Callable[..., Float[np.ndarray, "n k"]]
    loss: Float[np.ndarray, " t"]
    val_loss: float
    best_step: int


class _Rows(NamedTuple):
    """Labelled rows as the compiled program takes them, filled up with weight 0."""

    features: Any
    present: Any
    targets: Any
    weights: Any


class _Plan(NamedTuple):
    """What is compiled in: static under `jax.jit`."""

    graphdef: Any
    loss: SharedLoss
    steps: int
    peak: float
    warmup: int
    weight_decay: float


def fit_head(
    task: Task,
    features: Float[np.ndarray, "n *s w"],
    values: Sequence[Any],
    *,
    present: Bool[np.ndarray, "n s"] | None = None,
    val: Labelled | None = None,
    head: Mapping[str, Any] | None = None,
    fusion: str = "mean",
    steps: int = 300,
    peak: float = 1e-2,
    warmup: int = 20,
    weight_decay: float = 0.05,
    standardise: bool = True,
    seed: int = 0,
) -> FittedHead:
    """Trains a head, all scans in every step, with AdamW and the runs' schedule.

    Args:
      task: fitted to `values`.
      features: [n, w] of a frozen encoder, or [n, s, w] of cases.
      values: labels as `task.values` gives them; None counts for nothing.
      present: which sequences a case has; all if None.
      val: the step with the best loss on these is kept; the last if None.
      head: keywords of `Head`: dropout, norm, hidden, scale.
      fusion: row of `FUSIONS`, for cases.
      steps, peak, warmup, weight_decay: of the optimiser.
      standardise: whether features are z-scored by the mean and the spread of the
        training scans first; without it `params` fit a `Predictor` as they are.
      seed: of the head's start and its dropout.

    Raises:
      InputRefusedError: shapes or settings that do not fit, features not finite.
    """
    train = Labelled(np.asarray(features, np.float32), values, present)
    scale = _standard(train) if standardise else (0.0, 1.0)
    rows = _fill(task, train, scale)
    inputs = rows.present.shape[1]
    make = partial(
        Readout,
        train.features.shape[-1],
        task.outputs,
        head=dict(head or {}),
        inputs=inputs,
        fusion=fusion,
    )
    pure = to_pure(make(rngs=nnx.Rngs(seed)))
    loss = SharedLoss(task, rows.targets, rows.weights)
    plan = _Plan(pure.graphdef, loss, steps, peak, warmup, weight_decay)
    found = _fit(
        plan,
        pure.params,
        rows,
        None if val is None else _fill(task, val, scale),
        jax.random.key(seed),
    )
    params, losses, best_loss, best_step = jax.device_get(found)
    return FittedHead(
        params,
        partial(_predict, pure.graphdef, params, scale),
        losses,
        float(best_loss) if val is not None else float("nan"),
        int(best_step) if val is not None else steps,
    )


@partial(jax.jit, static_argnames="plan")
def _fit(plan: _Plan, params: Any, rows: _Rows, val: _Rows | None, key: Any) -> Any:
    """Gives the kept parameters, the losses, the best validation loss and its step."""
    transform, _ = make_optimizer(
        steps=plan.steps,
        peak=plan.peak,
        warmup=min(plan.warmup, plan.steps - 1),
        weight_decay=plan.weight_decay,
    )

    def loss_of(params: Any, rows: _Rows, keys: Any = None) -> Any:
        outputs = _call(plan.graphdef, params, rows.features, rows.present, keys)
        return plan.loss(outputs, rows.targets, rows.weights)

    def step(carry: Any, number: Any) -> Any:
        params, opt, best = carry
        keys = jax.random.split(jax.random.fold_in(key, number), len(rows.weights))
        loss, slopes = jax.value_and_grad(loss_of)(params, rows, keys)
        changes, opt = transform.update(slopes, opt, params)
        params = optax.apply_updates(params, changes)
        if val is not None:
            now = (params, loss_of(params, val), number + 1)
            better = now[1] < best[1]
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)
        return (params, opt, best), loss

    start = (params, jnp.inf, jnp.int32(0))
    numbers = jnp.arange(plan.steps, dtype=jnp.int32)
    carry = (params, transform.init(params), start)
    (last, _, best), losses = jax.lax.scan(step, carry, numbers)
    kept, best_loss, best_step = best
    return (last if val is None else kept), losses, best_loss, best_step


def _call(graphdef: Any, params: Any, features: Any, present: Any, keys: Any) -> Any:
    alone = features.ndim == 2
    return run(
        graphdef,
        params,
        {},
        features,
        None if alone else present,
        keys,
        train=keys is not None,
        method="answer",
    )[0]


_answer = jax.jit(partial(_call, keys=None), static_argnums=0)


def _predict(
    graphdef: Any,
    params: Any,
    scale: tuple[Any, Any],
    features: Float[np.ndarray, "n *s w"],
    present: Bool[np.ndarray, "n s"] | None = None,
) -> Float[np.ndarray, "n k"]:
    """Gives the outputs for features as the head was fitted to."""
    given, known = _check(Labelled(features, [None] * len(features), present))
    count = _filled_size(len(given))
    outputs = _answer(
        graphdef, params, _pad((given - scale[0]) / scale[1], count), _pad(known, count)
    )
    return np.asarray(outputs)[: len(given)]


def _standard(train: Labelled) -> tuple[Any, Any]:
    """Gives mean and spread [w] over the training scans, all sequences together."""
    features, present = _check(train)
    known = features[present] if features.ndim == 3 else features
    spread = known.std(axis=0)
    # A feature that never changes says nothing; dividing by next to 0 would say a lot.
    return known.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)


def _fill(task: Task, given: Labelled, scale: tuple[Any, Any]) -> _Rows:
    features, present = _check(given)
    targets, weights = task.encode(list(given.values))
    count = _filled_size(len(features))
    scaled = ((features - scale[0]) / scale[1]).astype(np.float32)
    parts = scaled, present, np.asarray(targets), np.asarray(weights, np.float32)
    return _Rows(*(_pad(part, count) for part in parts))


def _check(given: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Gives features, 0 where missing, and which are present, [n, s]; or refuses."""
    features = np.asarray(given.features, np.float32)
    if features.ndim not in (2, 3) or not len(features):
        raise InputRefusedError(
            f"features: wanted [n, w] or [n, s, w], got {list(features.shape)}"
        )
    if len(given.values) != len(features):
        raise InputRefusedError(
            f"features: wanted as many as labels, {len(given.values)}, got "
            f"{len(features)}"
        )
    shape = features.shape[:2] if features.ndim == 3 else (len(features), 1)
    known = np.ones(shape, bool) if given.present is None else np.asarray(given.present)
    if known.shape != shape:
        raise InputRefusedError(
            f"present: wanted {list(shape)}, got {list(known.shape)}"
        )
    if features.ndim == 3:
        features = np.where(known[..., None], features, np.float32(0))
    if not np.isfinite(features).all():
        raise InputRefusedError("features: wanted finite numbers, got NaN or infinity")
    return features, known.astype(bool)


def _filled_size(count: int) -> int:
    return max(FEWEST_ROWS, 1 << (count - 1).bit_length())


def _pad(rows: np.ndarray, count: int) -> np.ndarray:
    """Fills up with zeros (of `present`: with False)."""
    return np.pad(rows, [(0, count - len(rows)), *[(0, 0)] * (rows.ndim - 1)])
