"""What other scans lack or have round the brain: cuts, stripping, borders, air."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from brainjax.augment.blur import blur
from brainjax.augment.lots import Lots
from brainjax.augment.views import View

RIM = 2.0
"""Sigma, in voxels, of the smooth mask that borders are moved by."""

LEVEL = 0.1
"""Largest spread of the noise in the air, in units of the 0..1 range."""

ROOM = 0.25
"""A cut leaves up to this share of the field between itself and the brain."""


class Removal(NamedTuple):
    """What is taken off, or counted as head that is none.

    normals: of two cuts [2, 3], pointing to what goes.
    room: between brain and cut, as shares of the field [2].
    cut: whether each happens [2].
    strip, rim: whether all goes but where the smooth brain exceeds `rim`.
    loose, border: whether the head becomes where its smooth mask exceeds `border`.
    air, level: whether all counts as head, and the noise in it, in 0..1.
    """

    normals: Float[Array, "2 3"]
    room: Float[Array, "2"]
    cut: Bool[Array, "2"]
    strip: Bool[Array, ""]
    rim: Float[Array, ""]
    loose: Bool[Array, ""]
    border: Float[Array, ""]
    air: Bool[Array, ""]
    level: Float[Array, ""]


def draw_removal(
    lots: Lots, *, cut: float, strip: float, loose: float, air: float
) -> Removal:
    """Draws what is removed; `Synthesis` says what the probabilities are of."""
    # Forwards and downwards, the face and the neck; a little to either side.
    sides, forwards, upwards = (-0.3, 0.3), (0.0, 1.0), (-1.0, 0.0)
    spans = (sides, forwards, upwards)
    normals = jnp.stack([lots.uniform(*span, (2,)) for span in spans], axis=1)
    length = jnp.linalg.norm(normals, axis=1, keepdims=True)
    return Removal(
        normals=normals / jnp.maximum(length, 1e-6),
        room=lots.uniform(0.0, ROOM, (2,)),
        cut=lots.happens(cut, (2,)),
        strip=lots.happens(strip),
        rim=lots.uniform(0.02, 0.5),
        loose=lots.happens(loose),
        border=lots.uniform(0.1, 0.7),
        air=lots.happens(air),
        level=lots.uniform(0.0, LEVEL),
    )


def remove(
    view: View,
    brain: Bool[Array, "x y z"],
    removal: Removal,
    noise: Float[Array, "x y z"],
) -> View:
    """Gives the view without what is removed; no voxel of the brain ever goes."""
    there = view.inside & ~_cut_off(brain, removal)

    def stripped():
        return there & (_softened(brain) > removal.rim)

    there = jax.lax.cond(removal.strip, stripped, lambda: there) | brain
    values = jnp.where(there, view.values, removal.level * jnp.abs(noise))

    def loose():
        return (_softened(there) > removal.border) | brain

    inside = jax.lax.cond(removal.loose, loose, lambda: there) | removal.air
    return View(jnp.where(inside, values, 0), inside)


def _softened(mask: Bool[Array, "x y z"]) -> Float[Array, "x y z"]:
    return blur(mask.astype(jnp.float32), jnp.full(3, RIM))


def _cut_off(brain: Bool[Array, "x y z"], removal: Removal) -> Bool[Array, "x y z"]:
    """Gives what lies beyond a cut; the brain is always on this side of it."""
    axes = [(jnp.arange(n) + 0.5) / n for n in brain.shape]
    grid = jnp.meshgrid(*axes, indexing="ij", sparse=True)
    gone = jnp.zeros(brain.shape, bool)
    for normal, room, cut in zip(
        removal.normals, removal.room, removal.cut, strict=True
    ):
        along = sum(n * at for n, at in zip(normal, grid, strict=True))
        limit = jnp.max(along, where=brain, initial=-jnp.inf) + room
        gone |= cut & (along > jnp.where(jnp.isfinite(limit), limit, jnp.inf))
    return gone
