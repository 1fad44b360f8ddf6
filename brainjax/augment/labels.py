"""Augmentation of scans with their label map: one placement, labels taken nearest.

A segmenter works at its data's spacing: a view as large as the volume is all of it, a
smaller one a crop of it, a larger one has nothing round it. All sequences of a case and
its labels share the placement; contrasts and intensities are drawn for each sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from brainjax.anatomy import AXES
from brainjax.augment.chain import Augmentation, make_augmentation
from brainjax.augment.fusion import apart
from brainjax.augment.geometry import (
    Shape,
    draw_placement,
    resample,
    voxel_positions,
)
from brainjax.augment.intensity import Draw, apply_draws
from brainjax.augment.resize import resize
from brainjax.augment.strengths import refuse_unknown_strengths
from brainjax.augment.views import View, level_of, normalise, normalise_crop
from brainjax.errors import InputRefusedError

Volumes = UInt8[Array, "t a b c"]
"""The codes of a case's sequences and, last, the parts of its label map."""

WHOLE = ("crop", "aspect")
"""Strengths of `Augmentation` that would change the spacing."""


class Contrasts(Protocol):
    """What changes a view's contrast by its tissues, such as `Synthesis`."""

    def draw(self, key: Key[Array, ""], /) -> Any: ...

    def apply(self, view: View, labels: UInt8[Array, "x y z"], drawn: Any, /) -> View:
        """Gives the view in another contrast; labels are tissues, 0 for none."""
        ...


class Parts(NamedTuple):
    """What the numbers of a label map stand for, as `Segmentation.partition` has it.

    regions: [p, n], which structures a part belongs to; tissues: [p]; mirrored: [256],
    the part that each becomes where left and right are exchanged.
    """

    regions: Bool[np.ndarray, "p n"]
    tissues: UInt8[np.ndarray, " p"]
    mirrored: UInt8[np.ndarray, " q"]


class Place(NamedTuple):
    """How a view lies in the volume, voxel = matrix @ (view's - its middle) + offset.

    flip: whether left and right are exchanged (it is in the matrix already).
    """

    matrix: Float[Array, "3 3"]
    offset: Float[Array, "3"]
    flip: Bool[Array, ""]


class Drawn(NamedTuple):
    """All that is random about one case; what is of a sequence has a leading axis s."""

    place: Place
    draws: dict[str, Draw]
    contrast: Any


@dataclass(frozen=True)
class LabelledAugmentation:
    """Strengths of what happens to a case; hashable, so static in jit.

    base: of the view; its crop and aspect are not used. foreground: probability that a
    crop's box is centred on a voxel of a structure, drawn among those there are.
    contrasts: changes contrasts by tissue, None for none.
    """

    base: Augmentation
    foreground: float = 0.0
    contrasts: Contrasts | None = None

    @property
    def view(self) -> Shape:
        """Voxels of a view."""
        return self.base.view

    def draw(self, key: Key[Array, ""], volumes: Volumes, parts: Parts) -> Drawn:
        """Draws one case's parameters, a function of the key and, in crops, the labels.

        volumes: the case; its shape says how many sequences, and how large.
        """
        keys = jax.random.split(key, 3)
        sequences = jax.random.split(keys[1], volumes.shape[0] - 1)
        contrast = None
        if self.contrasts is not None:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(sequences, 1)
            contrast = jax.vmap(self.contrasts.draw)(own)
        draws = jax.vmap(lambda one: self.base.draw(one).draws)(sequences)
        start = self._start(keys[2], volumes[-1], parts)
        return Drawn(self._place(keys[0], volumes.shape[1:], start), draws, contrast)

    def apply(
        self, volumes: Volumes, drawn: Drawn, parts: Parts
    ) -> tuple[Float[Array, "x y z s"], UInt8[Array, "x y z"]]:
        """Gives z-scored views of the sequences, and the parts of every voxel.

        A crop is z-scored as a part of its volume, as it is where a network answers.
        A missing sequence, all code 0, gives a view of zeros.
        """
        labels = take_nearest(volumes[-1], drawn.place, self.view)
        tissues = _of(parts.tissues, labels)
        matrix, offset, _ = drawn.place

        def see(one: tuple) -> Float[Array, "x y z"]:
            codes, draws, contrast = one
            view = View(*resample(codes, matrix, offset, self.view))
            changed = self._change(view, tissues, draws, contrast)
            if (np.array(self.view) >= codes.shape).all():
                scored = normalise(changed)
            else:
                whole = level_of(View(*resize(codes, codes.shape)))
                scored = normalise_crop(changed, level_of(view), whole)
            # A contrast made up is painted by the labels, scan or no scan.
            return jnp.where((codes > 0).any(), scored, 0)

        # One after another: a program for one sequence does for all.
        views = jax.lax.map(see, (volumes[:-1], drawn.draws, drawn.contrast))
        flipped = jnp.asarray(parts.mirrored)[labels]
        labels = jnp.where(drawn.place.flip, flipped, labels)
        return jnp.moveaxis(views, 0, -1), labels

    def _change(self, view: View, tissues: Array, draws: dict, contrast: Any) -> View:
        if self.contrasts is not None:
            view = self.contrasts.apply(view, tissues, contrast)
        return apply_draws(view, draws)

    def _place(self, key: Key[Array, ""], field: Any, start: Int[Array, "3"]) -> Place:
        base = self.base
        placed = draw_placement(
            key,
            crop=(1.0, 1.0),
            aspect=0.0,
            rotate=base.rotate,
            scale=base.scale,
            stretch=base.stretch,
            translate=base.translate,
            affine_probability=base.affine_probability,
            flip=base.flip,
        )
        sign = jnp.where(placed.flip, -1.0, 1.0)
        matrix = placed.matrix.at[:, AXES["left_right"]].multiply(sign)
        middle = (np.asarray(self.view, np.float32) - 1) / 2
        offset = start + middle + placed.shift * np.asarray(field, np.float32)
        return Place(matrix, offset, placed.flip)

    def _start(self, key: Key[Array, ""], labels: Array, parts: Parts) -> Array:
        """Draws the first voxel of the box: whole numbers, so that nothing blurs."""
        field, view = np.array(labels.shape), np.array(self.view)
        room = field - view
        if (room <= 0).all():
            return jnp.asarray(room // 2, jnp.float32)  # all of it, in the middle
        often, where, which = jax.random.split(key, 3)
        start = jnp.floor(jax.random.uniform(where, (3,)) * (np.maximum(room, 0) + 1))
        if self.foreground:
            there, voxel = draw_voxel(which, labels, parts.regions)
            active = there & jax.random.bernoulli(often, self.foreground)
            start = jnp.where(active, voxel - view // 2, start)
        inside = jnp.clip(start, 0, np.maximum(room, 0))
        return jnp.where(room < 0, room // 2, inside)


def draw_voxel(
    key: Key[Array, ""], labels: UInt8[Array, "a b c"], regions: Bool[np.ndarray, "p n"]
) -> tuple[Bool[Array, ""], Float[Array, "3"]]:
    """Draws a structure among those there are, then one of its voxels.

    Gives whether there is any structure, and the voxel.
    """
    structure, place = jax.random.split(key)
    flat = labels.reshape(-1)
    counts = jnp.bincount(flat, length=256)[: len(regions)]
    sizes = counts @ jnp.asarray(regions, counts.dtype)
    drawn = jnp.argmax(jnp.where(sizes > 0, _unit(structure, sizes.shape), -1.0))
    member = _of(jnp.asarray(regions)[:, drawn], flat)
    rank = jnp.floor(_unit(place, ()) * sizes[drawn]).astype(jnp.int32)
    index = jnp.searchsorted(jnp.cumsum(member.astype(jnp.int32)), rank + 1)
    voxel = jnp.stack(jnp.unravel_index(index, labels.shape))
    return sizes.max() > 0, voxel.astype(jnp.float32)


def _unit(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    # float32 below 1 times a count up to 2^24 stays below it.
    return jax.random.uniform(key, shape, maxval=1 - 2**-20)


def _of(table: Any, parts: Array) -> Array:
    """Gives a table's entry of every part; 0 where the part is beyond its end."""
    table = jnp.asarray(table)
    filled = jnp.zeros((256, *table.shape[1:]), table.dtype)
    return filled.at[: len(table)].set(table)[parts]


def take_nearest(
    labels: UInt8[Array, "a b c"], place: Place, view: Shape
) -> UInt8[Array, "x y z"]:
    """Gives the nearest voxel's number, 0 beyond the volume."""
    flat, inside = jnp.uint32(0), jnp.bool_(True)
    positions = voxel_positions(place.matrix, place.offset, view)
    for position, size in zip(positions, labels.shape, strict=True):
        nearest = jnp.floor(position + 0.5)
        inside &= (nearest >= 0) & (nearest < size)
        cell = jnp.clip(nearest, 0, size - 1).astype(jnp.uint32)
        flat = flat * np.uint32(size) + cell

    def gather(labels, flat, inside):
        found = labels.at[flat].get(mode="promise_in_bounds")
        return jnp.where(inside, found, jnp.uint8(0))

    return apart(place.matrix, gather, labels.reshape(-1), flat, inside)


def make_label_augmentation(
    *,
    view: int | Sequence[int],
    foreground: float = 0.0,
    contrasts: Contrasts | None = None,
    **strengths: float,
) -> LabelledAugmentation:
    """Gives one from a config's keywords; `Augmentation` explains most of them.

    Raises:
      InputRefusedError: an unknown strength, with the near miss, or an impossible one;
        crop and aspect, which would change the spacing.
    """
    known = [field.name for field in fields(Augmentation) if field.name not in WHOLE]
    for name in WHOLE:
        if name in strengths:
            raise InputRefusedError(
                f"augment.{name}: there is no such strength for label maps; a crop is "
                "a view smaller than the volume"
            )
    refuse_unknown_strengths(
        "augment", strengths, [*known, "foreground"], of=" for label maps"
    )
    if not 0 <= foreground <= 1:
        raise InputRefusedError(f"augment.foreground: wanted 0..1, got {foreground}")
    base = make_augmentation(view=view, crop=(1.0, 1.0), **strengths)
    return LabelledAugmentation(base, float(foreground), contrasts)


def random_labelled_views(
    augmentation: LabelledAugmentation,
    volumes: UInt8[Array, "b t a b c"],
    keys: Key[Array, " b"],
    parts: Parts,
) -> tuple[Float[Array, "b x y z s"], UInt8[Array, "b x y z"]]:
    """Gives views and labels of every case; one after another on a CPU."""

    def drawn(key, volumes):
        return augmentation.draw(key, volumes, parts)

    def one(pair):
        volumes, parameters = pair
        return augmentation.apply(volumes, parameters, parts)

    # Drawn outside the loop: inside, XLA fuses a draw into every voxel that uses it.
    parameters = jax.lax.map(lambda pair: drawn(*pair), (keys, volumes))
    size = None if jax.default_backend() == "cpu" else len(volumes)
    return jax.lax.map(one, (volumes, parameters), batch_size=size)
