"""Optimisers by name: what to do with a gradient before and after the learning rate.

Parameters of a transformer's blocks are one stack [depth, ...]; what an optimiser does
to a matrix as a whole, it does to every layer of a stack.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from brainjax.errors import InputRefusedError
from brainjax.optim.paths import decayed, is_decayed, map_paths

LARS_TRUST = 0.001
"""How far LARS moves a matrix at learning rate 1, in lengths of it (SimCLR)."""

MUON_SIZE = 0.2
"""Root mean square of a step of AdamW, which Muon's are made to have (Liu 2025)."""

Row = tuple[optax.GradientTransformation, optax.GradientTransformation]


def _adamw(
    rate: optax.GradientTransformation,
    *,
    b1: float,
    b2: float,
    weight_decay: float | None,
    **_: float | None,
) -> Row:
    decay = 0.05 if weight_decay is None else weight_decay
    adam = optax.scale_by_adam(b1, b2)
    return optax.chain(adam, optax.add_decayed_weights(decay, mask=decayed)), rate


def _adam(
    rate: optax.GradientTransformation,
    *,
    b1: float,
    b2: float,
    weight_decay: float | None,
    **_: float | None,
) -> Row:
    if weight_decay:
        raise InputRefusedError(
            f"optimizer adam: wanted weight_decay 0, got {weight_decay}; use adamw"
        )
    return optax.scale_by_adam(b1, b2), rate


def _lars(
    rate: optax.GradientTransformation,
    *,
    weight_decay: float | None,
    momentum: float | None,
    **_: float | None,
) -> Row:
    """LARS (You et al. 2017) with SimCLR's settings: decay 1e-6, trust 0.001.

    Every matrix moves in proportion to its own length. What is not decayed (biases,
    norms, positions, tokens) moves by plain momentum, as in SimCLR.
    """
    decay = 1e-6 if weight_decay is None else weight_decay
    direction = optax.chain(
        optax.add_decayed_weights(decay, mask=decayed),
        optax.stateless(_trust_each_matrix),
    )
    # The rate goes in before the momentum, as in SimCLR: what was gathered at a large
    # rate is not made smaller afterwards.
    trace = optax.trace(0.9 if momentum is None else momentum)
    return direction, optax.chain(rate, trace)


def _trust_each_matrix(updates: Any, params: Any) -> Any:
    def trust(path: str, update: Array, param: Array) -> Array:
        if not is_decayed(path):
            return update
        # A stack's layers have lengths of their own; the last axes are a matrix, or
        # a convolution, whole.
        axes = tuple(range(1 if _is_stack(param) else 0, param.ndim))
        own, moved = (
            jnp.sqrt(jnp.square(x).sum(axis=axes, keepdims=True))
            for x in (param, update)
        )
        ratio = LARS_TRUST * own / jnp.where(moved > 0, moved, 1.0)
        return update * jnp.where((own > 0) & (moved > 0), ratio, 1.0)

    return map_paths(trust, updates, params)


def _muon(
    rate: optax.GradientTransformation,
    *,
    b1: float,
    b2: float,
    weight_decay: float | None,
    momentum: float | None,
) -> Row:
    """Muon (Jordan 2024) for the hidden matrices of an encoder or a segmenter.

    AdamW for the rest: as its author advises, the first layer and what gives answers
    are not Muon's; query, key and value are three matrices. Its steps have AdamW's size
    (0.2 x the root of the longer side, Liu et al. 2025), so that one learning rate and
    one decay serve both.
    """
    decay = optax.add_decayed_weights(
        0.05 if weight_decay is None else weight_decay, mask=decayed
    )
    matrices = optax.chain(
        scale_by_muon(
            beta=0.95 if momentum is None else momentum,
            weight_dimension_numbers=partial(map_paths, _side),
        ),
        optax.stateless(lambda updates, _: map_paths(_as_large_as_adam, updates)),
    )

    def label(params: Any) -> Any:
        return map_paths(lambda path, _: "muon" if _is_hidden(path) else "adam", params)

    adam = optax.scale_by_adam(b1, b2)
    chosen = optax.partition({"muon": _apart(matrices), "adam": adam}, label)
    return optax.chain(chosen, decay), rate


def _is_hidden(path: str) -> bool:
    parts = path.split("/")
    if "encoder" in parts[:-2]:
        ends = {"embed", "stem"}
    elif "segmenter" in parts[:-2]:
        ends = {"stem", "out", "deep_outs"}
    else:
        return False
    return not ends & {*parts} and is_decayed(path)


def _apart(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs a transform on trees whose qkv kernels are [..., width, 3, width]."""

    def init(params: Any) -> Any:
        return inner.init(map_paths(_split, params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        found, state = inner.update(map_paths(_split, updates), state, params)
        whole = jax.tree.map(lambda new, old: new.reshape(old.shape), found, updates)
        return whole, state

    return optax.GradientTransformation(init, update)


def _split(path: str, kernel: Array) -> Array:
    if not path.endswith("qkv/kernel"):
        return kernel
    return kernel.reshape(*kernel.shape[:-1], 3, kernel.shape[-1] // 3)


def _side(path: str, kernel: Array) -> MuonDimensionNumbers:
    if path.endswith("qkv/kernel"):
        return MuonDimensionNumbers((kernel.ndim - 3,), (kernel.ndim - 1,))
    first = 1 if _is_stack(kernel) else 0
    return MuonDimensionNumbers(
        tuple(range(first, kernel.ndim - 1)), (kernel.ndim - 1,)
    )


def _as_large_as_adam(path: str, update: Array) -> Array:
    sides = _side(path, update)
    lengths = [
        math.prod(update.shape[axis] for axis in axes)  # pyright: ignore
        for axes in sides
    ]
    return update * (MUON_SIZE * max(lengths) ** 0.5)


def _is_stack(kernel: Array) -> bool:
    # A matrix has two dimensions and a convolution five: three are a stack of layers.
    return kernel.ndim == 3


OPTIMIZERS = {"adamw": _adamw, "adam": _adam, "lars": _lars, "muon": _muon}
"""A row takes what scales by the learning rate, and gives two transforms in order."""

MOMENTUM = ("lars", "muon")
"""Rows that have a momentum."""
