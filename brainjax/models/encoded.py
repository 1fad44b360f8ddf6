"""What every encoder gives, and the checks that all of them share."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""Compute types by name; parameters are always float32."""


class Encoded(NamedTuple):
    """An encoded batch of volumes.

    Attributes:
        pooled: float32, one vector per volume.
        tokens: one vector per patch (or cell), in the encoder's compute type, x
            slowest and z fastest.
    """

    pooled: Float[Array, "b d"]
    tokens: Float[Array, "b n d"]


def triple(value, name: str) -> tuple[int, int, int]:
    """Gives `(n, n, n)` for n, and three positive integers as a tuple."""
    values = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(values) != 3 or any(int(v) != v or v < 1 for v in values):
        raise InputRefusedError(f"{name}: wanted one or three positive, got {value}")
    return int(values[0]), int(values[1]), int(values[2])


def compute_dtype(name: str):
    """Gives the compute type called `name`."""
    return DTYPES[choice(name, DTYPES, "dtype")]


def choice(value, allowed, name: str):
    """Gives `value` back if it is in `allowed`, else refuses it with all choices."""
    if value not in allowed:
        raise InputRefusedError(f"{name}: wanted one of {sorted(allowed)}, got {value}")
    return value


def check_volumes(
    volumes: Float[Array, "b x y z c"], shape: tuple[int, ...], channels: int = 1
) -> None:
    """Refuses a batch that is not `[b, x, y, z, channels]` of the encoder's shape."""
    wanted = (*shape, channels)
    if volumes.ndim != 5 or volumes.shape[1:] != wanted:
        raise InputRefusedError(
            f"encoder: wanted volumes [batch, {', '.join(map(str, wanted))}], "
            f"got {list(volumes.shape)}"
        )


def at_least(least: int, value, name: str) -> int:
    """Gives `value` back if it is a whole number of `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputRefusedError(
            f"{name}: wanted a whole number of {least} or more, got {value}"
        )
    return value
