"""What a view is, how it is normalised, and the keys that views are drawn from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from brainjax.augment.resize import Codes, resize
from brainjax.errors import InputRefusedError

# A fortieth of the step between two stored codes: below it a volume is constant.
_SMALLEST_SPREAD = 1e-4


def is_exact(codes: Codes) -> bool:
    """Says, when traced, whether a volume is float32: an exact recipe's."""
    return codes.dtype == jnp.float32


class View(NamedTuple):
    """What a network is about to see, before normalisation.

    values: float32 [x, y, z] in 0..1, exactly 0 outside.
    inside: bool [x, y, z], the voxels of the brain or head.
    """

    values: Float[Array, "x y z"]
    inside: Bool[Array, "x y z"]


class Level(NamedTuple):
    """Mean and standard deviation over the inside of a view; 0 where it has none."""

    mean: Float[Array, ""]
    spread: Float[Array, ""]


def level_of(view: View) -> Level:
    """Gives a view's level."""
    count = jnp.maximum(view.inside.sum(dtype=jnp.float32), 1)
    mean = view.values.sum() / count  # The outside is 0 and adds nothing.
    centred = jnp.where(view.inside, view.values - mean, 0)
    return Level(mean, jnp.sqrt(jnp.square(centred).sum() / count))


def normalise(view: View) -> Float[Array, "x y z"]:
    """Gives the z-score over the inside; the outside, and a constant volume, give 0."""
    level = level_of(view)
    return jnp.where(view.inside, view.values - level.mean, 0) * _over(level.spread)


def normalise_crop(view: View, crop: Level, whole: Level) -> Float[Array, "x y z"]:
    """Gives a crop as the z-scored volume that it is of has it there.

    At inference the whole volume is z-scored, once, so a crop's own z-score would be
    another scale. What was done to the crop's intensities is kept: it is z-scored by
    itself, then put where it lay in the whole before.

    Args:
        view: the crop, as augmented.
        crop: its level before that; whole: the volume's.
    """
    scale = _over(whole.spread)
    placed = normalise(view) * (crop.spread * scale) + (crop.mean - whole.mean) * scale
    return jnp.where(view.inside, placed, 0)


def _over(spread: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(spread > _SMALLEST_SPREAD, 1 / spread, 0)


def evaluation_view(codes: Codes, shape: tuple[int, int, int]) -> Float[Array, "x y z"]:
    """Gives the whole field of view at the encoder's size, z-scored.

    Anti-aliased where it shrinks; no resampling at all where the sizes agree. Float32
    volumes are what an exact recipe's network takes: they are given back untouched.

    Raises:
      InputRefusedError: float32 volumes of another size than the encoder's.
    """
    if is_exact(codes):
        if codes.shape != tuple(shape):
            raise InputRefusedError(
                f"view: wanted {tuple(shape)}, got {codes.shape} float32 volumes, "
                "which their recipe resized already"
            )
        return codes
    return normalise(View(*resize(codes, shape)))


def case_view(
    codes: UInt8[Array, "s a b c"] | Float[Array, "s a b c"],
    shape: tuple[int, int, int],
) -> Float[Array, "x y z s"]:
    """Gives the evaluation views of a case's sequences, as channels."""
    return jnp.stack([evaluation_view(one, shape) for one in codes], axis=-1)


def view_keys(
    seed: int | Int[Array, ""], positions: Int[Array, "b"], view: int
) -> Key[Array, "b"]:
    """Gives one threefry key per sample: a function of (seed, position, view).

    positions: global sample index of each volume (step * batch + slot).
    view: 0 for the first view of a scan, 1 for the second.
    """
    base = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), view)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(base, positions)
