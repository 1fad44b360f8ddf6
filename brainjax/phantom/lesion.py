"""Lumps in template space, and how a lesion takes over the tissue it grows in."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.phantom.anatomy import Anatomy
from brainjax.phantom.fields import sigmoid

_MIDLINE_MM = 1.0
_DEPTH_MM = 1.0


class Lump(NamedTuple):
    """The voxels near a lump, by index, and the mm each lies outside its surface."""

    voxels: Int[np.ndarray, " m"]
    outside: Float[np.ndarray, " m"]
    points: Float[np.ndarray, "3 m"]


def near(
    points: Float[np.ndarray, "3 n"], centre: tuple[float, float, float], reach: float
) -> Int[np.ndarray, " m"]:
    """Gives which template points lie in a cube of half-width `reach` mm."""
    found = np.abs(points[0] - np.float32(centre[0])) < reach
    for row in (1, 2):
        found &= np.abs(points[row] - np.float32(centre[row])) < reach
    return np.flatnonzero(found)


def make_lump(
    anatomy: Anatomy,
    centre: tuple[float, float, float],
    radius: float,
    rng: np.random.Generator,
    *,
    reach: float = 0.0,
) -> Lump:
    """Gives a bumpy ellipsoid: radii exp(0.12 N) long, bumps of 0.1 radius.

    `reach` is how many mm beyond the surface are wanted as well.
    """
    aspect = 0.12 * rng.standard_normal(3)
    aspect = np.exp(aspect - aspect.mean())
    voxels = near(anatomy.points, centre, 1.7 * radius + reach)
    points = anatomy.points[:, voxels]
    at = points - np.array(centre, np.float32)[:, None]
    away = np.sqrt(((at / aspect[:, None]) ** 2).sum(0))
    bumps = waves(points, rng, 1.5 * radius)
    return Lump(voxels, away - radius + 0.1 * radius * bumps, points)


def waves(
    points: Float[np.ndarray, "3 n"], rng: np.random.Generator, length: float
) -> Float[np.ndarray, " n"]:
    """Gives a smooth random wave of sd 1: six directions, `length` mm long."""
    wave = np.zeros(points.shape[1], np.float32)
    for _ in range(6):
        way = rng.standard_normal(3)
        way *= 2 * np.pi / length / np.linalg.norm(way)
        phase = rng.uniform(0, 2 * np.pi)
        wave += np.sin(way.astype(np.float32) @ points + np.float32(phase))
    return wave / np.float32(3**0.5)


def within(outside: np.ndarray, spacing: float) -> np.ndarray:
    """Gives the share of a voxel that lies inside a surface `outside` mm away."""
    return sigmoid(-outside / max(0.35, 0.3 * spacing))


def held(anatomy: Anatomy, lump: Lump, side: float) -> Float[np.ndarray, " m"]:
    """Gives where a lesion may be: in the brain, on its side (-1 left, 1 right)."""
    depth = anatomy.maps["outside"][lump.voxels] + _DEPTH_MM
    across = _MIDLINE_MM - side * lump.points[0]
    return within(np.maximum(depth, across), anatomy.grid.spacing)


def replace(
    anatomy: Anatomy, lump: Lump, share: np.ndarray, gains: dict, losers: dict
) -> Anatomy:
    """Turns a share [m] of the tissues `losers` into the tissues `gains`.

    `losers` says how readily each tissue gives way (0..1); `gains` how what was
    lost is divided (sums to 1).
    """
    tissues = dict(anatomy.tissues)
    lost = np.zeros(lump.voxels.size, np.float32)
    for name, readily in losers.items():
        part = tissues[name][lump.voxels] * share * np.float32(readily)
        tissues[name] = tissues[name].copy()
        tissues[name][lump.voxels] -= part
        lost += part
    for name, of_it in gains.items():
        if name not in tissues:
            tissues[name] = np.zeros(anatomy.voxels.size, np.float32)
        tissues[name][lump.voxels] += np.float32(of_it) * lost
    return anatomy._replace(tissues=tissues)


def note_ml(anatomy: Anatomy, name: str, tissues: tuple[str, ...]) -> Anatomy:
    """Notes the volume in ml of some tissues together as the answer `name`."""
    voxel = anatomy.grid.spacing**3 / 1000
    ml = sum(float(anatomy.tissues[t].sum(dtype=np.float64)) for t in tissues) * voxel
    return anatomy._replace(answers={**anatomy.answers, name: round(ml, 3)})
