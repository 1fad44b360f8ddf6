"""Glioma: core, rim and oedema, whose look and place depend on the IDH status."""

from typing import NamedTuple

import numpy as np

from brainjax.phantom.anatomy import Anatomy
from brainjax.phantom.atlas import Atlas
from brainjax.phantom.latents import Subject
from brainjax.phantom.lesion import (
    held,
    make_lump,
    near,
    note_ml,
    replace,
    waves,
    within,
)

LOBES = {
    "frontal": (27.0, 32.0, 20.0),
    "temporal": (44.0, -20.0, -14.0),
    "parietal": (30.0, -44.0, 36.0),
    "occipital": (26.0, -72.0, 10.0),
}
"""Centres on the right in MNI mm; the place is 5 mm N round one of them."""

FRONTAL = {"wildtype": 0.30, "mutant": 0.65}
LOOKS = {
    "enhancement": {"wildtype": 1.0, "mutant": -1.0, "sd": 1.5},
    "mismatch": {"wildtype": -1.0, "mutant": 1.0, "sd": 1.5},
    "oedema": {"wildtype": 9.0, "mutant": 5.0, "sd": 3.0},
}
"""Mean by IDH status and sd: logits of two shares, and a width in mm."""

RADII = (10.0, 20.0)
RIM = (2.0, 3.5)
SQUEEZE, _SQUEEZE_REACH = 0.35, 1.6


class Glioma(NamedTuple):
    """One tumour: lengths and place in template mm, looks as shares 0 to 1.

    `radius` is to the outside of the rim, as it appears; `enhancement` says how
    bright the rim is after contrast agent, `mismatch` how dark the core is on FLAIR
    while bright on T2w. The `_draw`s are what the oracle reads (logits, mm).
    """

    idh: str
    lobe: str
    side: str
    x: float
    y: float
    z: float
    radius: float
    rim_width: float
    oedema_width: float
    enhancement: float
    mismatch: float
    nominal_ml: float
    oracle_mutant: float


def draw_glioma(subject: Subject) -> Glioma:
    """Gives a tumour: IDH even, the rest as `FRONTAL`, `LOOKS`, `RADII` and `RIM`."""
    rng = subject.stream("glioma")
    idh = ("wildtype", "mutant")[int(rng.integers(2))]
    lobe, others = "frontal", [name for name in LOBES if name != "frontal"]
    if rng.random() >= FRONTAL[idh]:
        lobe = others[int(rng.integers(len(others)))]
    side = "LR"[int(rng.integers(2))]
    x, y, z = (float(v) for v in LOBES[lobe] + 5.0 * rng.standard_normal(3))
    looks = {
        name: row[idh] + row["sd"] * float(rng.standard_normal())
        for name, row in LOOKS.items()
    }
    radius = float(np.exp(rng.uniform(*np.log(RADII))))
    return Glioma(
        idh=idh,
        lobe=lobe,
        side=side,
        x=abs(x) if side == "R" else -abs(x),
        y=y,
        z=z,
        radius=radius,
        rim_width=float(rng.uniform(*RIM)),
        oedema_width=max(looks["oedema"], 0.0),
        enhancement=_share(looks["enhancement"]),
        mismatch=_share(looks["mismatch"]),
        nominal_ml=4 / 3 * np.pi * radius**3 / 1000,
        oracle_mutant=_share(_log_odds(lobe, looks)),
    )


def _share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def _log_odds(lobe: str, looks: dict[str, float]) -> float:
    """Log odds of a mutant given all that depends on it."""
    odds = {k: v if lobe == "frontal" else 1 - v for k, v in FRONTAL.items()}
    total = float(np.log(odds["mutant"] / odds["wildtype"]))
    for name, row in LOOKS.items():
        wild, mutant = ((looks[name] - row[k]) / row["sd"] for k in FRONTAL)
        total += (wild**2 - mutant**2) / 2
    return total


def push_aside(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """The tumour takes room: what is round it is seen further out, and flatter.

    p <- c + (p - c) (1 - 0.35 exp(-(|p - c| / 1.6 R)^2)).
    """
    if subject.arm != "glioma":
        return anatomy
    glioma = draw_glioma(subject)
    voxels = near(anatomy.points, (glioma.x, glioma.y, glioma.z), 4 * glioma.radius)
    centre = np.array([glioma.x, glioma.y, glioma.z], np.float32)[:, None]
    at = anatomy.points[:, voxels] - centre
    points = anatomy.points.copy()
    points[:, voxels] = centre + at * (1 - _squeeze((at**2).sum(0), glioma.radius))
    return anatomy._replace(points=points)


def _squeeze(squared, radius: float):
    """How much nearer to the centre a point looks, by its squared distance."""
    reach = np.float32(_SQUEEZE_REACH * radius)
    return np.float32(SQUEEZE) * np.exp(-squared / reach**2)


def add_glioma(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """Core and rim replace all but the ventricles, oedema creeps along white matter.

    Distances are template mm after `push_aside`, so R appears as stated.
    """
    if subject.arm != "glioma":
        return anatomy
    glioma = draw_glioma(subject)
    rng = subject.stream("glioma shape")
    spacing, wide = anatomy.grid.spacing, 1.6 * glioma.oedema_width
    radius = glioma.radius * (1 - float(_squeeze(glioma.radius**2, glioma.radius)))
    centre = (glioma.x, glioma.y, glioma.z)
    lump = make_lump(anatomy, centre, radius, rng, reach=wide + 4)
    allowed = held(anatomy, lump, 1.0 if glioma.side == "R" else -1.0)
    fingers = glioma.oedema_width * (1 + 0.4 * waves(lump.points, rng, 30.0))
    mass = within(lump.outside, spacing)
    core = within(lump.outside + glioma.rim_width, spacing)
    oedema = within(lump.outside - fingers, spacing)

    solid = {"grey": 1.0, "white": 1.0, "csf": 1.0}
    # All of the mass is rim first; the core then takes its share of that.
    bright, dull = glioma.enhancement, 1 - glioma.enhancement
    gains = {"rim": bright, "margin": dull}
    anatomy = replace(anatomy, lump, mass * allowed, gains, solid)
    gains = {"tumour": glioma.mismatch, "necrosis": 1 - glioma.mismatch}
    share = core / np.clip(mass, 1e-6, 1)
    anatomy = replace(anatomy, lump, share, gains, {"rim": 1.0, "margin": 1.0})
    share = np.clip((oedema - mass) / np.clip(1 - mass, 1e-6, 1), 0, 1) * allowed
    anatomy = replace(anatomy, lump, share, {"oedema": 1.0}, _CREEPS)
    return _note_volumes(anatomy)


_CREEPS = {"white": 1.0, "grey": 0.2}


def _note_volumes(anatomy: Anatomy) -> Anatomy:
    anatomy = note_ml(anatomy, "core_ml", ("tumour", "necrosis"))
    anatomy = note_ml(anatomy, "rim_ml", ("rim", "margin"))
    return note_ml(anatomy, "oedema_ml", ("oedema",))
