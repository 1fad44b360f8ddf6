"""Mild cognitive impairment: hippocampi that have lost volume, at stated places."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.phantom.anatomy import Anatomy
from brainjax.phantom.atlas import Atlas
from brainjax.phantom.latents import Subject
from brainjax.phantom.lesion import Lump, near, replace, within

HIPPOCAMPUS = ((24.0, -11.0, -22.0), (27.0, -23.0, -16.0), (26.0, -36.0, -5.0))
"""Head, body and tail of the right hippocampus in MNI mm; the left has x mirrored."""

RADIUS = 6.0
"""Radius in mm of the tube round that line: 4.5 ml a side."""

MEAN_LOSS = {"healthy": 0.15, "mci": 0.40}
LOSS_NOISE = 0.12
OPENING = 4.0


class Mci(NamedTuple):
    """Share of its cross-section that the hippocampus has lost, 0 to 0.8."""

    hippocampal_loss: float


def draw_mci(subject: Subject) -> Mci:
    """Gives the loss h = 0.15 (0.40 with MCI) + 0.12 N, kept within 0 and 0.8."""
    rng = subject.stream("hippocampi")
    mean = MEAN_LOSS["mci" if subject.arm == "mci" else "healthy"]
    loss = mean + LOSS_NOISE * float(rng.standard_normal())
    return Mci(min(max(loss, 0.0), 0.8))


def shrink_hippocampi(anatomy: Anatomy, subject: Subject, atlas: Atlas) -> Anatomy:
    """The shell between the smaller hippocampus and a wider gap becomes CSF.

    With distance r to the line and loss h: tissue goes where R sqrt(1 - h) < r <
    R + 4 h, edges softened by a voxel: hippocampus inside, temporal horn and choroid
    fissure outside. Subjects of a cohort without arms are left alone.
    """
    if subject.arm is None:
        return anatomy
    loss = draw_mci(subject).hippocampal_loss
    lump = hippocampi(anatomy)
    spacing = anatomy.grid.spacing
    small = within(lump.outside + RADIUS * (1 - (1 - loss) ** 0.5), spacing)
    shell = within(lump.outside - OPENING * loss, spacing) - small
    losers = {"grey": 1.0, "white": 1.0}
    anatomy = replace(anatomy, lump, np.clip(shell, 0, 1), {"csf": 1.0}, losers)
    tube = within(lump.outside, spacing)
    ml = tube @ anatomy.tissues["grey"][lump.voxels] * spacing**3 / 1000
    return anatomy._replace(
        answers={**anatomy.answers, "hippocampi_ml": round(float(ml), 3)}
    )


def hippocampi(anatomy: Anatomy) -> Lump:
    """Gives both tubes at once: the template is symmetric."""
    points = np.stack([np.abs(anatomy.points[0]), *anatomy.points[1:]])
    voxels = near(points, HIPPOCAMPUS[1], 30.0)
    points = points[:, voxels]
    parts = itertools.pairwise(HIPPOCAMPUS)
    lines = [_to_line(points, np.array(a), np.array(b)) for a, b in parts]
    return Lump(voxels, np.minimum(*lines) - np.float32(RADIUS), points)


def _to_line(
    points: Float[np.ndarray, "3 n"], start: np.ndarray, end: np.ndarray
) -> Float[np.ndarray, " n"]:
    """Distance in mm to the straight piece between two points."""
    start, way = start.astype(np.float32), (end - start).astype(np.float32)
    at = points - start[:, None]
    along = np.clip(way @ at / (way @ way), 0, 1)
    return np.sqrt(((at - way[:, None] * along) ** 2).sum(0))
