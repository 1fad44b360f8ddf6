"""Contrasts that no scanner gave: a network that has seen all of them minds none.

A scan and a map of its tissues become the scan of some other sequence. Inside the brain
every tissue is painted anew (Billot et al. 2023, SynthSeg; Hoopes et al. 2022,
SynthStrip), with some of the scan's own detail left in; or the scan goes through a
random curve that need not rise. There is no map of the rest of the head, so it always
goes through a curve. Sometimes face, neck or scalp are missing, slices are thick, the
head's border is drawn wrongly, or the air is not empty.

It comes after geometry and before the intensity table (bias, gamma, blur, noise).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, Key, UInt8, UInt32

from brainjax.augment.blur import blur
from brainjax.augment.curves import Curve, apply_curve, draw_curve
from brainjax.augment.fusion import apart
from brainjax.augment.lots import Lots
from brainjax.augment.noise import gaussian_noise
from brainjax.augment.removal import Removal, draw_removal, remove
from brainjax.augment.strengths import refuse_unknown_strengths
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
    sigma: of a blur along each axis [3], in voxels: soft borders, thick slices.
    words: of the noise inside tissues and in the air.
    """

    active: Bool[Array, ""]
    painted: Bool[Array, ""]
    paint: Paint
    brain: Curve
    head: Curve
    sigma: Float[Array, "3"]
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
        lots = Lots(key, 64 + 3 * self.tissues)
        active, painted = lots.happens(self.probability), lots.happens(self.painted)
        brain, head = draw_curve(lots), draw_curve(lots)
        same = lots.happens(self.one_curve)
        return Contrast(
            active=active,
            painted=painted,
            paint=draw_paint(lots, self),
            brain=brain,
            head=jax.tree.map(lambda b, h: jnp.where(same, b, h), brain, head),
            sigma=_draw_sigma(lots, self),
            removal=draw_removal(
                lots, cut=self.cut, strip=self.strip, loose=self.loose, air=self.air
            ),
            words=lots.words(2),
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
    refuse_unknown_strengths("synthesis", strengths, known)
    numbers = {name: float(value) for name, value in strengths.items()}
    return Synthesis(families=tuple(map(int, families)), **numbers)


def draw_paint(lots: Lots, synthesis: Synthesis) -> Paint:
    """Draws each tissue's mean, spread and share of detail."""
    families = np.array([0, *synthesis.families])
    shape = (len(families),)
    mean = lots.uniform(0.05, 1.0, (3,))[families]
    mean += lots.uniform(-synthesis.apart, synthesis.apart, shape)
    spread = lots.uniform(0.1 * synthesis.spread, synthesis.spread, shape)
    sign = jnp.where(lots.happens(0.5), 1.0, -1.0)
    share = sign * lots.uniform(0.0, synthesis.detail, shape)
    return Paint(jnp.clip(mean, 0, 1), spread, share)


def _draw_sigma(lots: Lots, synthesis: Synthesis) -> Float[Array, "3"]:
    """Draws the blur of all axes, and with it that across thick slices, of one."""
    edge = lots.uniform(0.0, synthesis.edge)
    thick = lots.uniform(0.0, synthesis.thick) * lots.happens(
        synthesis.thick_probability
    )
    across = jnp.arange(3) == jnp.floor(lots.uniform(0.0, 3.0))
    return jnp.sqrt(edge**2 + jnp.where(across, thick, 0.0) ** 2)


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
    tissue = jnp.where(labels < drawn.paint.mean.shape[0], labels, 0)
    tissue = tissue.astype(jnp.int32)

    def make_noise(words):
        return gaussian_noise(words, view.values.shape)

    # Fused, every use of the noise would draw it anew.
    noise = apart(view.values, make_noise, drawn.words)
    brain = jax.lax.cond(
        drawn.painted,
        lambda: paint_tissues(view.values, tissue, drawn.paint, noise),
        lambda: apply_curve(view.values, drawn.brain),
    )
    head = apply_curve(view.values, drawn.head)
    changed = View(jnp.where(tissue > 0, brain, head), view.inside)
    values, inside = remove(changed, tissue > 0, drawn.removal, noise)
    values = blur(values, drawn.sigma)
    return View(jnp.where(inside, jnp.clip(values, 0, 1), 0), inside)


def paint_tissues(
    values: Float[Array, "x y z"],
    tissue: Int32[Array, "x y z"],
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
    values: Float[Array, "x y z"], tissue: Int32[Array, "x y z"], numbers: int
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
