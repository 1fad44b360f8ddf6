"""Contrasts that no scanner gave: a network that has seen all of them minds none.

A scan and a map of its tissues become the scan of some other sequence. Inside the brain
every tissue is painted anew (Billot et al. 2023, SynthSeg; Hoopes et al. 2022,
SynthStrip), with some of the scan's own detail left in; or the scan goes through a
random curve that need not rise. There is no map of the rest of the head, so it always
goes through a curve. Sometimes face, neck or scalp are missing, slices are thick, the
head's border is drawn wrongly, or the air is not empty.

It comes after geometry and before the intensity table (bias, gamma, blur, noise).
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8, UInt32

from brainjax.augment.curves import Curve, apply_curve, draw_curve
from brainjax.augment.intensity import gaussian_half, smooth
from brainjax.augment.noise import gaussian_noise
from brainjax.augment.removal import Removal, draw_removal, remove
from brainjax.augment.views import View
from brainjax.errors import InputRefusedError

DLMUSE_TISSUES: dict[str, tuple[int, ...]] = {
    "cortex": tuple(range(100, 208)),
    "deep_grey": (*(23, 30, 31, 32, 36, 37, 47, 48), *range(55, 61), 75, 76),
    "white": tuple(range(81, 96)),
    "ventricles": (4, 11, 49, 50, 51, 52),
    "cerebellar_grey": (38, 39, 71, 72, 73),
    "cerebellar_white": (40, 41),
    "stem": (35, 61, 62, 69),
    "fluid": (1, 46, 63, 64),
}
"""Region ids of MUSE by tissue, in the order of `Synthesis.families`."""

GREY, WHITE, FLUID = 0, 1, 2
_SMALLEST = 1e-3


class Paint(NamedTuple):
    """What every tissue becomes, [t] each; entry 0 is what has no tissue, unused.

    mean, spread: of its intensities, in 0..1.
    share: of the spread that is the scan's own detail, -1..1; the rest is noise.
    """

    mean: Float[Array, " t"]
    spread: Float[Array, " t"]
    share: Float[Array, " t"]


class Contrast(NamedTuple):
    """All that is random about one synthesised scan.

    active: False leaves the view as it is.
    painted: tissue by tissue; else the brain goes through `brain`.
    edge: half a kernel that softens the borders between tissues.
    slices: half a kernel along each axis [3, r + 1]: thick slices.
    words: of the noise inside tissues and in the air.
    """

    active: Bool[Array, ""]
    painted: Bool[Array, ""]
    paint: Paint
    brain: Curve
    head: Curve
    edge: Float[Array, " r"]
    slices: Float[Array, "3 r"]
    removal: Removal
    words: UInt32[Array, "2"]


@dataclass(frozen=True)
class Synthesis:
    """How far contrasts go; hashable, so static in jit.

    families: of each tissue 1, 2, ..: 0 grey, 1 white, 2 fluid; tissues of a family
        look alike (or not, see `apart`). As many as the label map has numbers.
    probability: that a view is synthesised; else it stays the real scan.
    painted: probability, of those, that the brain is painted by tissue.
    apart: largest difference of a tissue's mean from its family's.
    spread: largest standard deviation inside a tissue.
    detail: largest share of that which is the scan's own detail.
    one_curve: probability that the head goes through the brain's curve.
    edge: largest sigma, in voxels, that softens borders.
    thick, thick_probability: largest sigma across thick slices, voxels; how often.
    cut: probability of each of two cuts that take off a part without brain.
    strip: probability that all but the brain and a rim of some voxels is gone.
    loose: probability that the head's border is drawn too wide or too narrow.
    air: probability that everything round the head counts as head, with noise in it.
    """

    families: tuple[int, ...] = (GREY, GREY, WHITE, FLUID, GREY, WHITE, WHITE, FLUID)
    probability: float = 0.75
    painted: float = 0.6
    apart: float = 0.15
    spread: float = 0.08
    detail: float = 1.0
    one_curve: float = 0.3
    edge: float = 0.8
    thick: float = 1.5
    thick_probability: float = 0.3
    cut: float = 0.25
    strip: float = 0.08
    loose: float = 0.2
    air: float = 0.08

    def __post_init__(self):
        """Refuses what cannot be drawn, naming the key, what was wanted, what came."""
        if not self.families or not set(self.families) <= {GREY, WHITE, FLUID}:
            raise InputRefusedError(
                f"families: wanted 0, 1 or 2 for each tissue, got {self.families}"
            )
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            much = field.name in ("edge", "thick")
            if value < 0 or (value > 1 and not much):
                wanted = "0 or more" if much else "0..1"
                raise InputRefusedError(f"{field.name}: wanted {wanted}, got {value}")

    @property
    def tissues(self) -> int:
        """Numbers of the label map that are tissues: 1 to this."""
        return len(self.families)

    def draw(self, key: Key[Array, ""]) -> Contrast:
        """Draws one view's contrast: a pytree, a function of the key alone."""
        keys = jax.random.split(key, 10)
        brain, head = draw_curve(keys[2]), draw_curve(keys[3])
        same = jax.random.bernoulli(keys[4], self.one_curve)
        head = jax.tree.map(lambda b, h: jnp.where(same, b, h), brain, head)
        sigma = jax.random.uniform(keys[5], maxval=max(self.edge, 1e-6))
        return Contrast(
            active=jax.random.bernoulli(keys[0], self.probability),
            painted=jax.random.bernoulli(keys[1], self.painted),
            paint=draw_paint(keys[6], self),
            brain=brain,
            head=head,
            edge=gaussian_half(sigma, self.edge),
            slices=_draw_slices(keys[7], self.thick, self.thick_probability),
            removal=draw_removal(
                keys[8],
                cut=self.cut,
                strip=self.strip,
                loose=self.loose,
                air=self.air,
            ),
            words=jax.random.key_data(keys[9]).astype(jnp.uint32)[-2:],
        )

    def apply(
        self, view: View, labels: UInt8[Array, "x y z"], contrast: Contrast
    ) -> View:
        """Gives the view in another contrast; see `synthesise`."""
        return synthesise(view, labels, contrast)


def make_synthesis(
    *, families: Iterable[int] = Synthesis.families, **strengths: float
) -> Synthesis:
    """Gives a Synthesis from a config's keywords; `Synthesis` explains them.

    Raises InputRefusedError for an unknown one, with the near miss, or an impossible.
    """
    known = [field.name for field in fields(Synthesis)]
    for name in strengths:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
            raise InputRefusedError(
                f"synthesis.{name}: there is no such strength; did you mean {near}?"
            )
    numbers = {name: float(value) for name, value in strengths.items()}
    return Synthesis(families=tuple(map(int, families)), **numbers)


def draw_paint(key: Key[Array, ""], synthesis: Synthesis) -> Paint:
    """Draws each tissue's mean, spread and share of detail."""
    keys = jax.random.split(key, 5)
    families = np.array([0, *synthesis.families])
    count = (len(families),)
    mean = jax.random.uniform(keys[0], (3,), minval=0.05, maxval=1.0)[families]
    mean += synthesis.apart * jax.random.uniform(keys[1], count, minval=-1, maxval=1)
    spread = synthesis.spread * jax.random.uniform(keys[2], count, minval=0.1)
    sign = jnp.where(jax.random.bernoulli(keys[3]), 1.0, -1.0)
    share = sign * synthesis.detail * jax.random.uniform(keys[4], count)
    return Paint(jnp.clip(mean, 0, 1), spread, share)


def _draw_slices(
    key: Key[Array, ""], thick: float, probability: float
) -> Float[Array, "3 r"]:
    often, axis, much = jax.random.split(key, 3)
    sigma = jax.random.uniform(much, maxval=max(thick, 1e-6))
    chosen = jnp.arange(3) == jax.random.randint(axis, (), 0, 3)
    chosen &= jax.random.bernoulli(often, probability)
    return jax.vmap(lambda on: gaussian_half(jnp.where(on, sigma, 0.0), thick))(chosen)


def synthesise(view: View, labels: UInt8[Array, "x y z"], parameters: Contrast) -> View:
    """Gives the view in another contrast: values in 0..1, 0 outside.

    Args:
        view: of a T1w head, before normalisation; its inside may change.
        labels: tissues on the view's grid, 1 to the number of families; 0, and numbers
            beyond, are not brain. They stay true of the view that is given.
        parameters: of `Synthesis.draw`.
    """
    return jax.lax.cond(
        parameters.active,
        lambda view: _synthesised(view, labels, parameters),
        lambda view: view,
        view,
    )


def _synthesised(view: View, labels: UInt8[Array, "x y z"], drawn: Contrast) -> View:
    numbers = drawn.paint.mean.shape[0]
    tissue = jnp.where(labels < numbers, labels, 0).astype(jnp.int32)
    noise = gaussian_noise(drawn.words, view.values.shape)
    brain = jax.lax.cond(
        drawn.painted,
        lambda: paint_tissues(view.values, tissue, drawn.paint, noise),
        lambda: apply_curve(view.values, drawn.brain),
    )
    head = apply_curve(view.values, drawn.head)
    values = jnp.where(tissue > 0, brain, head)
    view = remove(View(values, view.inside), tissue > 0, drawn.removal, noise)
    values = view.values
    for axis in (2, 1, 0):
        half = _both(drawn.edge, drawn.slices[axis])
        values = jax.lax.optimization_barrier(smooth(values, half, axis))
    return View(jnp.where(view.inside, jnp.clip(values, 0, 1), 0), view.inside)


def _both(edge: Float[Array, " r"], slices: Float[Array, " s"]) -> Float[Array, " t"]:
    """Gives half the kernel of two blurs, one after the other."""
    one, other = (jnp.concatenate([half[:0:-1], half]) for half in (edge, slices))
    whole = jnp.convolve(one, other)
    return whole[whole.shape[0] // 2 :]


def paint_tissues(
    values: Float[Array, "x y z"],
    tissue,
    paint: Paint,
    noise: Float[Array, "x y z"],
) -> Float[Array, "x y z"]:
    """Gives intensities whose mean and spread in every tissue are those drawn."""
    mean, spread = tissue_statistics(values, tissue, paint.mean.shape[0])
    gain = paint.spread * paint.share / jnp.maximum(spread, _SMALLEST)
    rest = paint.spread * jnp.sqrt(1 - jnp.square(paint.share))
    # Values far off their tissue's (vessels, partial volume) stay within three spreads.
    level = paint.mean - gain * mean
    found = level[tissue] + gain[tissue] * values + rest[tissue] * noise
    low, high = paint.mean - 3 * paint.spread, paint.mean + 3 * paint.spread
    return jnp.clip(found, low[tissue], high[tissue])


def tissue_statistics(
    values: Float[Array, "x y z"], tissue, numbers: int
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Gives mean and standard deviation of every tissue; 0 where there is none."""

    def one(number):
        here = (tissue == number).astype(jnp.float32)
        count = jnp.maximum(here.sum(), 1)
        mean = (here * values).sum() / count
        return mean, jnp.sqrt((here * jnp.square(values - mean)).sum() / count)

    found = [one(number) for number in range(numbers)]
    mean, spread = zip(*found, strict=True)
    return jnp.stack(mean), jnp.stack(spread)
