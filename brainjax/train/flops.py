"""Model FLOPs: the products and convolutions of a network, each counted once.

A multiplication and an addition are two. What is computed again to save memory is not
counted again, nor what augmentation, loss and optimiser do: a small part of a step, and
no part of the model.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from brainjax.models.convolution import portable_convolutions
from brainjax.models.pure import run
from brainjax.train.state import Blueprint

log = logging.getLogger("brainjax")

BACKWARD = 2
"""Forward passes that a backward pass costs: the slopes of inputs and of parameters."""


def model_flops(
    blueprint: Blueprint,
    view: tuple[int, ...],
    *,
    views: int = 1,
    frozen: bool = False,
    inputs: int = 1,
    channels: int = 1,
) -> int:
    """Counts the FLOPs of training on one scan; allocates nothing.

    Three times the forward pass of a view, as the field counts, though the first layer
    has no use for the slopes of its input.

    Args:
      blueprint: of the network.
      view: voxels of the encoder's input along x, y, z.
      views: of a scan in one step.
      frozen: whether the encoder is, which then has no backward pass.
      inputs: sequences of a case, where cases are what it trains on.
      channels: of a volume, where sequences are these.
    """
    state = blueprint.abstract
    together = (inputs,) if inputs > 1 else ()
    volume = jax.ShapeDtypeStruct((1, *together, *view, channels), jnp.float32)

    def forward(method: str) -> int:
        def call(params, batch_stats, volume):
            return run(
                blueprint.graphdef,
                params,
                batch_stats,
                volume,
                train=True,
                method=method,
            )[0]

        return count_flops(call, state["params"], state["batch_stats"], volume)

    once = forward("encode") if frozen else 0
    return views * ((1 + BACKWARD) * (forward("__call__") - once) + once)


def count_flops(function: Callable, *arguments: Any) -> int:
    """Counts the FLOPs of a function's matrix products and convolutions.

    Of a branch the dearest counts, a scan as often as it runs, `shard_map` on every
    device; a loop whose length is not known counts once, with a warning. Convolutions
    are counted in their plain form, whatever form this platform would take.

    Args:
      function: of arrays, not jitted itself: a trace that jax keeps would keep the
        plain convolutions.
      *arguments: trees of arrays or of `jax.ShapeDtypeStruct`.
    """
    with portable_convolutions():
        # A new function each time, so that jax keeps no trace of the one given.
        closed = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    return _count(closed.jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: JaxprEqn) -> int:
    name = equation.primitive.name
    if name in _PRODUCTS:
        return _PRODUCTS[name](equation)
    inner = [_count(jaxpr) for jaxpr in _inside(equation.params.values())]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "shard_map":
        mesh, params = equation.params["mesh"], equation.params
        # The name has changed between versions of jax.
        split = params.get("newly_manual_axes") or params["manual_axes"]
        return math.prod(mesh.shape[axis] for axis in split) * sum(inner)
    if name == "while" and any(inner):
        log.warning("FLOPs: a loop of unknown length is counted as if it ran once")
    return sum(inner)


def _inside(values: Any) -> Iterator[Jaxpr]:
    """The functions among an equation's parameters, as programs."""
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, list | tuple):
            yield from _inside(value)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _matrix_product(equation: JaxprEqn) -> int:
    left = _shape(equation.invars[0])
    (contracted, _), _ = equation.params["dimension_numbers"]
    out = _shape(equation.outvars[0])
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: JaxprEqn) -> int:
    """Taps beyond the border count; zeros put between voxels do not."""
    kernel = _shape(equation.invars[1])
    _, inputs, *space = equation.params["dimension_numbers"].rhs_spec
    taps = math.prod(kernel[axis] for axis in (inputs, *space))
    out = math.prod(_shape(equation.outvars[0]))
    return 2 * out * taps // math.prod(equation.params["lhs_dilation"])


def _fused_attention(equation: JaxprEqn) -> int:
    """cuDNN's: queries times keys, and the weights times values."""
    query, key, *_ = map(_shape, equation.invars)
    heads_first = int(equation.params["layout"]) == 1
    return 4 * math.prod(query) * key[-2 if heads_first else -3]


_PRODUCTS = {
    "dot_general": _matrix_product,
    "conv_general_dilated": _convolution,
    "dot_product_attention_fwd_wrapper": _fused_attention,
}
