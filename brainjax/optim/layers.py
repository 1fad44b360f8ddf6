"""Layer-wise decay of the learning rate (Clark et al. 2020, Bao et al. 2022).

Of an encoder of L layers, what is above the layers (the final norm, the head) learns at
the full rate, layer l of 1 to L at `decay ** (L + 1 - l)` of it, and what is below them
(patch embedding or stem, positions, tokens) at `decay ** (L + 1)`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from brainjax.errors import InputRefusedError
from brainjax.optim.paths import map_paths

BELOW = ("embed", "positions", "class_token", "registers", "stem", "norm0")
"""Parts of an encoder before its first layer."""

STACK = "blocks"
"""The part of a transformer whose arrays have a leading axis of its layers."""

LISTS = {
    "stages": 1,
    "blocks": 1,
    "transitions": 1,
    "levels": 1,
    "downs": 2,  # from the first level to the second
    "convs": 1,  # the stem is what stands before them ...
    "norms": 0,  # ... and has the first of the norms
}
"""Lists of a convolutional encoder, and the layer that the first of each belongs to."""


def layer_factors(params: Any, decay: float) -> Any:
    """Gives what the rate of every parameter is multiplied by.

    A float32 scalar, or [depth, 1, ...] for stacked blocks.

    Raises:
        InputRefusedError: a decay outside 0..1, or an encoder whose layers have no
            order known here.
    """
    if not 0 < decay <= 1:
        raise InputRefusedError(
            f"optimizer.layer_decay: wanted over 0, up to 1, got {decay}"
        )
    widths: dict[str, int] = {}
    map_paths(lambda path, leaf: widths.update({path: leaf.shape[-1]}), params)
    depth = 0

    def count(path: str, leaf: Any) -> None:
        nonlocal depth
        depth = max(depth, int(np.max(_layers(path, leaf, widths))))

    def factor(path: str, leaf: Any) -> Any:
        layers = _layers(path, leaf, widths)
        layers = np.where(layers < 0, depth + 1, layers)
        factors = jnp.asarray(decay ** (depth + 1.0 - layers), jnp.float32)
        return factors.reshape(layers.shape + (1,) * (leaf.ndim - 1) * layers.ndim)

    map_paths(count, params)
    return map_paths(factor, params)


def _layers(path: str, leaf: Any, widths: dict[str, int]) -> Int[np.ndarray, "*depth"]:
    """Gives a parameter's layer, or those of a stack; -1 above all layers."""
    room, *parts = path.split("/")
    if room != "encoder":
        return np.array(-1)
    if parts[0] == "norm":
        # As wide as the stem, it is the stem's; else it ends the encoder.
        stem = widths.get("encoder/stem/kernel") == leaf.shape[-1]
        return np.array(0 if stem else -1)
    if parts[0] in BELOW:
        return np.array(0)
    if parts[0] in LISTS and parts[1].isdigit():
        return np.array(LISTS[parts[0]] + int(parts[1]))
    if parts[0] == STACK:
        return np.arange(1, leaf.shape[0] + 1)
    raise InputRefusedError(
        "optimizer.layer_decay: wanted an encoder whose layers have an order known "
        f"here, got one with {path}; use layer_decay = 1"
    )
