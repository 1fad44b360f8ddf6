"""Losses of segmented volumes: Dice, cross-entropy, focal and boundary terms.

Each takes logits `[b, x, y, z, k]`, class numbers `[b, x, y, z]` and weights `[b]`, and
gives one number. A voxel of class `UNKNOWN` never counts, nor does a sample of weight
0: sums are masked, and divided once. Regions, which overlap, are rows of a table: the
logits are then one of each region (a sigmoid each), or, `summed`, of the classes, whose
probabilities are added up.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from brainjax.losses.compared import Compared, compare
from brainjax.losses.distances import signed_distances
from brainjax.losses.supervised import Sums, divided
from brainjax.models.cnn import split_octets
from brainjax.models.segmented import Segmented
from brainjax.records.classes import UNKNOWN

Loss = Callable[..., Float[Array, ""]]


def soft_dice(
    logits: Float[Array, "b x y z k"],
    labels: UInt8[Array, "b x y z"],
    weights: Float[Array, " b"],
    *,
    dice: Mapping[str, Any] | None = None,
    **compared,
) -> Float[Array, ""]:
    """Gives 1 - Dice of probabilities; dice: keywords of `dice_of`."""
    return dice_of(compare(logits, labels, **compared), weights, **dice or {})


def dice_of(
    found: Compared,
    weights: Float[Array, " b"],
    *,
    batch: bool = False,
    absent: bool = False,
    smooth: float = 1e-5,
) -> Float[Array, ""]:
    """Gives 1 - Dice of probabilities (Milletari 2016, with plain sums below).

    batch: whether the voxels of all samples are summed before dividing, else a mean
    over samples. absent: whether channels without a known voxel count; their Dice is
    near 0 until nothing at all is predicted, and cross-entropy teaches it better.
    smooth: added above and below.
    """
    counted = (found.known & _each(weights > 0, 4))[..., None]
    chances = jnp.where(counted, found.chances, 0.0)
    axes = (1, 2, 3)
    truth = (found.truth & counted).sum(axes, dtype=jnp.int32).astype(chances.dtype)
    both = jnp.where(found.truth, chances, 0.0).sum(axes)
    either = chances.sum(axes) + truth
    if batch:
        sums = [(weights[:, None] * each).sum(0) for each in (both, either, truth)]
        both, either, truth = sums
        weights = jnp.ones(())
    losses = 1 - (2 * both + smooth) / (either + smooth)
    present = jnp.ones_like(truth) if absent else (truth > 0).astype(truth.dtype)
    shares = present * weights[..., None]
    return divided(Sums(jnp.sum(losses * shares), shares.sum()))


def cross_entropy_of(
    found: Compared, weights: Float[Array, " b"], *, smoothing: float = 0.0
) -> Float[Array, ""]:
    """Gives the mean of -log of the right answers' probabilities, in nats.

    smoothing: share of the truth that is spread evenly over all answers.
    """
    logs = (1 - smoothing) * found.log_true
    if smoothing:
        logs = logs + smoothing * found.log_even
    return _voxel_mean(-logs.mean(-1), found.known, weights)


def focal_of(
    found: Compared, weights: Float[Array, " b"], *, gamma: float = 2.0
) -> Float[Array, ""]:
    """Gives the cross-entropy, each voxel's times (1 - chance) ** gamma (Lin 2017).

    chance: the probability of the right answer; what is right already counts less.
    """
    values = -jnp.exp(gamma * found.log_false) * found.log_true
    return _voxel_mean(values.mean(-1), found.known, weights)


def boundary_of(
    found: Compared,
    weights: Float[Array, " b"],
    *,
    distances: Float[Array, "b x y z n"] | None = None,
    reach: int = 8,
) -> Float[Array, ""]:
    """Gives the mean of probability times signed distance (Kervadec et al. 2019).

    In voxels; it may be below 0, and is least where the truth is. A term beside Dice.
    distances: those of `signed_distances`; None computes them of the truth here, as
    far as `reach` voxels, beyond which a mistake costs no more (unknown voxels lie
    outside of every channel).
    """
    if distances is None:
        distances = signed_distances(found.truth, reach=reach)
    values = (found.chances * jax.lax.stop_gradient(distances)).mean(-1)
    return _voxel_mean(values, found.known, weights)


def _voxel_mean(values: Array, known: Array, weights: Array) -> Array:
    counts = known.sum((1, 2, 3), dtype=jnp.int32)
    sums = jnp.where(known & _each(weights > 0, 4), values, 0.0).sum((1, 2, 3))
    return divided(Sums((weights * sums).sum(), (weights * counts).sum()))


def _each(values: Array, ndim: int) -> Array:
    return values.reshape(-1, *(1,) * (ndim - 1))


def dice_cross_entropy(
    logits: Float[Array, "b x y z k"],
    labels: UInt8[Array, "b x y z"],
    weights: Float[Array, " b"],
    *,
    smoothing: float = 0.0,
    dice: Mapping[str, Any] | None = None,
    **compared,
) -> Float[Array, ""]:
    """Gives `soft_dice` plus `cross_entropy_of`; keywords are theirs."""
    found = compare(logits, labels, **compared)
    overlap = dice_of(found, weights, **dice or {})
    return overlap + cross_entropy_of(found, weights, smoothing=smoothing)


def dice_focal(
    logits: Float[Array, "b x y z k"],
    labels: UInt8[Array, "b x y z"],
    weights: Float[Array, " b"],
    *,
    gamma: float = 2.0,
    dice: Mapping[str, Any] | None = None,
    **compared,
) -> Float[Array, ""]:
    """Gives `soft_dice` plus `focal_of`; keywords are theirs."""
    found = compare(logits, labels, **compared)
    overlap = dice_of(found, weights, **dice or {})
    return overlap + focal_of(found, weights, gamma=gamma)


def dice_ce_boundary(
    logits: Float[Array, "b x y z k"],
    labels: UInt8[Array, "b x y z"],
    weights: Float[Array, " b"],
    *,
    boundary: float = 0.01,
    distances: Float[Array, "b x y z n"] | None = None,
    reach: int = 8,
    smoothing: float = 0.0,
    dice: Mapping[str, Any] | None = None,
    **compared,
) -> Float[Array, ""]:
    """Gives `dice_cross_entropy` plus `boundary` times `boundary_of`."""
    found = compare(logits, labels, **compared)
    overlap = dice_of(found, weights, **dice or {})
    edges = boundary_of(found, weights, distances=distances, reach=reach)
    entropy = cross_entropy_of(found, weights, smoothing=smoothing)
    return overlap + entropy + boundary * edges


SEGMENTATION_LOSSES: dict[str, Loss] = {
    "dice": soft_dice,
    "dice_ce": dice_cross_entropy,
    "dice_focal": dice_focal,
    "dice_ce_boundary": dice_ce_boundary,
}
"""Losses of volumes by the name a config gives."""


def deep_supervised(
    loss: Loss,
    segmented: Segmented,
    labels: UInt8[Array, "b x y z"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    """Gives the weighted mean of a loss over all grids of logits.

    The volume's has weight 1, each coarser one half of the one before; its labels are
    those of `coarsen`.
    """
    total, shares = loss(segmented.logits, labels, weights), 1.0
    for level, logits in enumerate(segmented.deep, 1):
        labels = coarsen(labels)
        total = total + 0.5**level * loss(logits, labels, weights)
        shares += 0.5**level
    return total / shares


def coarsen(labels: UInt8[Array, "b x y z"]) -> UInt8[Array, "b i j k"]:
    """Halves every side: each 2x2x2 cells get the class number most of them have.

    Of numbers that are as frequent, the higher; unknown only where all cells are.
    """
    octets = split_octets(labels[..., None], fill=UNKNOWN)[..., 0].astype(jnp.int32)
    counts = (octets[..., :, None] == octets[..., None, :]).sum(-1)
    votes = jnp.where(octets == UNKNOWN, 0, counts)
    best = (votes * 256 + octets).max(-1)
    return (best % 256).astype(labels.dtype)
