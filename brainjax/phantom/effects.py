"""What makes subjects differ in ways one can learn: one function, one row each.

An effect takes (anatomy, subject, atlas) and gives an anatomy. A "shape" effect
moves `points` (where in the template each voxel looks) before the one resampling; a
"tissue" effect changes fractions after it. A disease is one more function and one
more row: it draws from `subject.stream("its name")`, and notes what should be known
of it in `answers`, which go to `latents.tsv`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from brainjax.phantom.anatomy import Anatomy, place, resample
from brainjax.phantom.atlas import Atlas
from brainjax.phantom.fields import Grid, sample, sigmoid
from brainjax.phantom.glioma import add_glioma, push_aside
from brainjax.phantom.head import add_head
from brainjax.phantom.latents import Subject
from brainjax.phantom.mci import shrink_hippocampi
from brainjax.phantom.stroke import add_stroke


class Effect(NamedTuple):
    """A row of EFFECTS: name, stage ("shape" or "tissue") and function."""

    name: str
    stage: str
    apply: Callable[[Anatomy, Subject, Atlas], Anatomy]


def make_anatomy(
    subject: Subject, atlas: Atlas, grid: Grid, *, head: bool = False
) -> Anatomy:
    """Gives the whole anatomy of a subject: placed, moved, sampled, changed."""
    anatomy = place(subject, atlas, grid, head=head)
    for effect in EFFECTS:
        if effect.stage == "shape":
            anatomy = effect.apply(anatomy, subject, atlas)
    anatomy = resample(anatomy, atlas)
    for effect in EFFECTS:
        if effect.stage == "tissue":
            anatomy = effect.apply(anatomy, subject, atlas)
    return anatomy


def widen_spaces(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """Ventricles (with age) and cisterns (a nuisance) widen, in mm at their wall.

    p <- p - v V(p) - c C(p): a voxel shows what lay nearer to the cavity.
    """
    latents = subject.latents
    fields = sample(atlas.spaces, anatomy.points).T
    ventricles, cisterns = fields[:3], fields[3:]
    move = latents.ventricles * ventricles + latents.cisterns * cisterns
    return anatomy._replace(points=(anatomy.points - move).astype(np.float32))


def thin_cortex(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """Outer grey matter turns into CSF: above with age, below as a nuisance.

    With depth d below the pial surface, upper share m(p) and thinning t, s in mm:
    grey loses the fraction sigmoid((m t + (1 - m) s - d) / w); CSF gains it.
    """
    upper = upper_cortex(anatomy.points)
    latents = subject.latents
    thinning = upper * latents.thinning + (1 - upper) * latents.other_thinning
    width = max(0.35, 0.3 * anatomy.grid.spacing)
    lost = sigmoid((thinning - anatomy.maps["pial"]) / width)
    lost = lost * anatomy.tissues["grey"]
    tissues = {
        **anatomy.tissues,
        "grey": anatomy.tissues["grey"] - lost,
        "csf": anatomy.tissues["csf"] + lost,
    }
    return anatomy._replace(tissues=tissues)


def upper_cortex(points: np.ndarray) -> np.ndarray:
    """Share of the age-dependent cortex at template mm: 1 frontal and on top."""
    _, y, z = points
    return sigmoid((0.5 * (y + 20) + 0.87 * (z - 8)) / 8)


def surround(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """Whatever lies round the brain: a CSF rim when stripped, else the head."""
    return add_head(anatomy, subject) if anatomy.head else _strip(anatomy, subject)


def _strip(anatomy: Anatomy, subject: Subject) -> Anatomy:
    """Keeps the brain up to `rim` mm outside its surface (a nuisance)."""
    inside = anatomy.maps["outside"] < subject.latents.rim
    return anatomy._replace(maps={**anatomy.maps, "inside": inside})


EFFECTS = (
    Effect("widen_spaces", "shape", widen_spaces),
    Effect("push_aside", "shape", push_aside),
    Effect("thin_cortex", "tissue", thin_cortex),
    Effect("shrink_hippocampi", "tissue", shrink_hippocampi),
    Effect("add_glioma", "tissue", add_glioma),
    Effect("add_stroke", "tissue", add_stroke),
    Effect("surround", "tissue", surround),
)
"""Every effect, in the order it is applied."""
