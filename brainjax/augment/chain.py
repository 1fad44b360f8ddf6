"""The whole augmentation of a view: one resampling, then the intensity table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key, UInt8

from brainjax.augment.geometry import (
    Placement,
    draw_placement,
    resample,
    resample_plain,
    voxel_affine,
)
from brainjax.augment.intensity import AUGMENTATIONS, Draw, apply_draws
from brainjax.augment.resize import Codes, quantise, resize, to_codes
from brainjax.augment.strengths import refuse_unknown_strengths
from brainjax.augment.views import View, is_exact, normalise
from brainjax.errors import InputRefusedError

# A trilinear sample sees two voxels an axis: on a grid much finer than the view's it
# would step over voxels. Up to this it hardly does, and a small crop keeps detail.
_FINEST = 1.5

# So many volumes fill an accelerator; more at once would only take more memory.
_TOGETHER = 64


def _three(sizes: Iterable[int]) -> tuple[int, int, int]:
    x, y, z = sizes
    return x, y, z


def _refuse_shape(view: Sequence[int]) -> None:
    if len(view) != 3 or min(view) < 1:
        raise InputRefusedError(f"view: wanted 3 sizes of 1+, got {view}")


class Parameters(NamedTuple):
    """All that is random about one view."""

    placement: Placement
    draws: dict[str, Draw]  # Rows of AUGMENTATIONS that can happen.


@dataclass(frozen=True)
class Augmentation:
    """Strengths and probabilities of every augmentation; hashable, so static in jit.

    The defaults are for contrastive learning of brain MRI: size and ventricles carry
    age and disease, so the scale is mild and nothing bends.

    view: size of the view in voxels [x, y, z].
    crop: volume of the crop, uniform between these fractions of the field of view.
    aspect: largest log change of one side of the crop against the others.
    rotate: largest angle about each axis, degrees.
    scale, stretch: largest log scale of all axes together, and of each.
    translate: largest shift along each axis, as a fraction of the field of view.
    affine_probability: that rotate, scale, stretch and translate happen.
    flip: probability of exchanging left and right; no other axis is ever flipped.
    bias: root mean square of the log gain of the bias field.
    gamma, contrast: largest log gamma, largest log factor about the mean.
    brightness: largest amount added, in units of the 0..1 range.
    blur: largest sigma, in voxels of the view.
    noise: largest standard deviation, in units of the 0..1 range.
    *_probability: that this augmentation happens to a view.
    """

    view: tuple[int, int, int] = (96, 96, 96)
    crop: tuple[float, float] = (0.33, 1.0)
    aspect: float = 0.05
    rotate: float = 10.0
    scale: float = 0.05
    stretch: float = 0.02
    translate: float = 0.03
    affine_probability: float = 1.0
    flip: float = 0.5
    bias: float = 0.15
    bias_probability: float = 0.5
    gamma: float = 0.3
    gamma_probability: float = 0.5
    brightness: float = 0.1
    brightness_probability: float = 0.3
    contrast: float = 0.2
    contrast_probability: float = 0.3
    blur: float = 1.0
    blur_probability: float = 0.3
    noise: float = 0.05
    noise_probability: float = 0.3

    def __post_init__(self):
        """Refuses what cannot be drawn, naming the key, what was wanted, what came."""
        low, high = self.crop
        if not 0 < low <= high <= 1:
            raise InputRefusedError(
                f"crop: wanted 0 < low <= high <= 1, got {self.crop}"
            )
        _refuse_shape(self.view)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("view", "crop"):
                continue
            chance = field.name == "flip" or field.name.endswith("_probability")
            if value < 0 or (chance and value > 1):
                wanted = "0..1" if chance else "0 or more"
                raise InputRefusedError(f"{field.name}: wanted {wanted}, got {value}")

    def draw(
        self, key: Key[Array, ""], box_key: Key[Array, ""] | None = None
    ) -> Parameters:
        """Draws one view's parameters: a pytree, a function of the keys alone.

        box_key: draws the crop's box; two views that share it are of one crop.
        """
        draws = {
            name: row.draw(
                jax.random.fold_in(key, 1 + number),
                getattr(self, name),
                getattr(self, f"{name}_probability"),
            )
            for number, (name, row) in enumerate(AUGMENTATIONS.items())
            # What can never happen is not even compiled.
            if getattr(self, name) and getattr(self, f"{name}_probability")
        }
        placement = draw_placement(
            jax.random.fold_in(key, 0),
            crop=self.crop,
            aspect=self.aspect,
            rotate=self.rotate,
            scale=self.scale,
            stretch=self.stretch,
            translate=self.translate,
            affine_probability=self.affine_probability,
            flip=self.flip,
            box_key=box_key,
        )
        return Parameters(placement, draws)

    def apply(self, codes: Codes, parameters: Parameters) -> View:
        """Gives the view that the parameters describe, before normalisation.

        Z-scored float32 volumes go the same way on codes that are not rounded: the
        z-score at its end gives them back, so that nothing drawn is nothing changed.

        A volume more than 1.5 times the view along an axis is reduced to that first
        (anti-aliased, and rounded to codes again). On a CPU that costs several times
        the rest: prepare at the view's own spacing there.
        """
        limits = [int(_FINEST * size) for size in self.view]
        field = _three(codes.shape)
        stored = _three(map(min, field, limits))
        exact = is_exact(codes)
        if exact:
            codes = float_codes(codes)
        if stored != field:
            codes = (to_codes if exact else quantise)(*resize(codes, stored))
        matrix, offset = voxel_affine(
            parameters.placement, field=field, stored=stored, view=self.view
        )
        # Packing neighbours into words is for bytes.
        take = resample_plain if exact else resample
        view = View(*take(codes, matrix, offset, self.view))
        return apply_draws(view, parameters.draws)


def float_codes(scores: Float32[Array, "a b c"]) -> Float32[Array, "a b c"]:
    """Gives codes of a z-scored volume, not rounded: 0 where it is 0, 1..255 else."""
    inside = scores != 0
    low = jnp.min(scores, where=inside, initial=jnp.inf)
    spread = jnp.max(scores, where=inside, initial=-jnp.inf) - low
    values = (scores - low) / jnp.where(spread > 0, spread, 1)
    return to_codes(jnp.where(inside, values, 0), inside)


def make_augmentation(
    *,
    view: int | Sequence[int] = (96, 96, 96),
    crop: Sequence[float] = (0.33, 1.0),
    **strengths: float,
) -> Augmentation:
    """Gives an Augmentation from a config's keywords; `Augmentation` explains them.

    view: one size for all axes, or three. Lists become tuples, whole numbers floats.

    Raises:
      InputRefusedError: an unknown strength, with the near miss, or an impossible one.
    """
    known = [field.name for field in fields(Augmentation)]
    refuse_unknown_strengths("augment", strengths, known)
    shape = (view,) * 3 if isinstance(view, int) else view
    _refuse_shape(shape)
    low, high = map(float, crop)
    # A config may say flip = 1; jax wants probabilities as floats.
    numbers = {name: float(value) for name, value in strengths.items()}
    return Augmentation(view=_three(shape), crop=(low, high), **numbers)


def random_views(
    augmentation: Augmentation,
    codes: UInt8[Array, "b a b c"] | Float32[Array, "b a b c"],
    keys: Key[Array, "b"],
    *,
    box_keys: Key[Array, "b"] | None = None,
    batch_by: Literal["map", "vmap"] | None = None,
) -> Float[Array, "b x y z 1"]:
    """Gives one z-scored view of every volume, float32, ready for an encoder.

    box_keys: draw the crops' boxes, for views that are to share theirs.
    batch_by: "map" works on one volume after another (less memory, branches that are
    not taken cost nothing, each result bitwise independent of the batch), "vmap" on 64
    at once. Left out: "map" on a CPU, "vmap" on an accelerator, decided when traced.
    """

    # Drawn outside the loop: inside, XLA fuses a draw into every voxel that uses it.
    parameters = jax.vmap(augmentation.draw)(keys, box_keys)

    def one(codes: Codes, parameters: Parameters):
        return normalise(augmentation.apply(codes, parameters))

    if batch_by is None:
        batch_by = "map" if jax.default_backend() == "cpu" else "vmap"
    if batch_by == "vmap" and len(codes) <= _TOGETHER:
        views = jax.vmap(one)(codes, parameters)
    else:
        size = _TOGETHER if batch_by == "vmap" else None
        views = jax.lax.map(
            lambda pair: one(*pair), (codes, parameters), batch_size=size
        )
    return views[..., None]
