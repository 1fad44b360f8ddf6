"""Random curves from old intensities to new ones, broken at some knots."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from brainjax.augment.lots import Lots

KNOTS = np.array([0.0, 0.08, 0.2, 0.36, 0.6, 1.0], np.float32)
"""Of a T1w head: air and bone, fluid, muscle, grey, white, fat lie near these."""

JITTER = 0.035
"""A knot between the first and the last moves by so much; their order stays."""


class Curve(NamedTuple):
    """New intensities `y` at old ones `x`, rising; straight between. [k] each."""

    x: Float[Array, " k"]
    y: Float[Array, " k"]


def draw_curve(lots: Lots) -> Curve:
    """Draws a curve that may fall as well as rise.

    What is darkest, air and bone, stays dark in nearly every sequence: its new
    intensity is the cube of a uniform number.
    """
    inner = KNOTS[1:-1] + lots.uniform(-JITTER, JITTER, KNOTS[1:-1].shape)
    x = jnp.concatenate([KNOTS[:1], inner, KNOTS[-1:]])
    y = lots.uniform(shape=KNOTS.shape)
    return Curve(x, y.at[0].set(y[0] ** 3))


def apply_curve(values: Float[Array, "x y z"], curve: Curve) -> Float[Array, "x y z"]:
    """Gives new intensities, without a gather: a sum of clipped straight pieces."""
    found = jnp.zeros_like(values) + curve.y[0]
    for k in range(curve.x.shape[0] - 1):
        width = jnp.maximum(curve.x[k + 1] - curve.x[k], 1e-6)
        part = jnp.clip((values - curve.x[k]) / width, 0, 1)
        found += (curve.y[k + 1] - curve.y[k]) * part
    return found
