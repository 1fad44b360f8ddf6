"""Stroke: a lesion on one side, whose look and size tell the days since its onset."""

from typing import NamedTuple

import numpy as np

from brainjax.phantom.anatomy import Anatomy
from brainjax.phantom.atlas import Atlas
from brainjax.phantom.latents import Subject
from brainjax.phantom.lesion import held, make_lump, note_ml, replace, within

DAYS = (1.0, 180.0)
STAGE_NOISE = 0.08
SHRINKAGE = 0.5
ONSET_ML = 25.0
ONSET_SPREAD = 0.7

TERRITORIES = {
    "middle": (40.0, -8.0, 16.0),
    "deep": (25.0, 2.0, 8.0),
    "front": (16.0, 38.0, 34.0),
    "back": (22.0, -74.0, 4.0),
}
"""Centres on the right in MNI mm: arteries of the brain, and its deep branches."""

_SHARES = (0.5, 0.2, 0.1, 0.2)

STAGES = ("acute", "subacute", "chronic")
"""Tissues that a lesion is a mixture of; `CONTRASTS` has the look of each."""


class Stroke(NamedTuple):
    """One stroke: days since onset, template mm, ml at onset and as nominal now."""

    stroke_days: float
    stage: float
    territory: str
    side: str
    x: float
    y: float
    z: float
    onset_ml: float
    nominal_ml: float


def draw_stroke(subject: Subject) -> Stroke:
    """Gives a stroke: ln(days) is uniform between 1 and 180 days.

    stage = ln(days) / ln(180) + 0.08 N; nominal_ml = onset_ml (1 - 0.5 ln(days) /
    ln(180)) with onset_ml = 25 exp(0.7 N); the side is even, the place
    5 mm N round the centre of its territory.
    """
    rng = subject.stream("stroke")
    days = round(float(np.exp(rng.uniform(*np.log(DAYS)))), 1)
    stage = time_share(days) + STAGE_NOISE * rng.standard_normal()
    territory = str(rng.choice(list(TERRITORIES), p=_SHARES))
    side = "LR"[int(rng.integers(2))]
    x, y, z = TERRITORIES[territory] + 5.0 * rng.standard_normal(3)
    onset = ONSET_ML * float(np.exp(ONSET_SPREAD * rng.standard_normal()))
    now = onset * (1 - SHRINKAGE * time_share(days))
    x = abs(x) if side == "R" else -abs(x)
    place = (float(x), float(y), float(z))
    return Stroke(days, float(stage), territory, side, *place, onset, float(now))


def time_share(days):
    """Gives how far along the logarithm of 1 to 180 days some days are, 0 to 1."""
    return np.log(days) / np.log(DAYS[1])


def stage_shares(stage: float) -> dict[str, float]:
    """Gives how much of each of STAGES a lesion shows; they sum to 1.

    s = (stage + 0.2) / 1.4: acute at 0, subacute at one half, chronic at 1, linear
    in between.
    """
    s = float(np.clip((stage + 0.2) / 1.4, 0, 1))
    shares = (max(1 - 2 * s, 0), 1 - abs(2 * s - 1), max(2 * s - 1, 0))
    return dict(zip(STAGES, shares, strict=True))


def oracle_days(stroke: Stroke) -> float:
    """Gives the median of days given stage and nominal volume: the least MAE."""
    days = np.geomspace(*DAYS, 1001)
    share = time_share(days)
    size = np.log(stroke.nominal_ml / ONSET_ML / (1 - SHRINKAGE * share))
    z = ((stroke.stage - share) / STAGE_NOISE) ** 2 + (size / ONSET_SPREAD) ** 2
    weight = np.cumsum(np.exp(-0.5 * (z - z.min())))
    return float(days[np.searchsorted(weight, weight[-1] / 2)])


def add_stroke(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """Grey and white matter of the lesion become the stages it shows."""
    if subject.arm != "stroke":
        return anatomy
    stroke = draw_stroke(subject)
    rng = subject.stream("stroke shape")
    radius = (stroke.nominal_ml * 750 / np.pi) ** (1 / 3)
    lump = make_lump(anatomy, (stroke.x, stroke.y, stroke.z), radius, rng)
    side = 1.0 if stroke.side == "R" else -1.0
    share = within(lump.outside, anatomy.grid.spacing) * held(anatomy, lump, side)
    losers = {"grey": 1.0, "white": 1.0}
    anatomy = replace(anatomy, lump, share, stage_shares(stroke.stage), losers)
    return note_ml(anatomy, "stroke_ml", STAGES)
