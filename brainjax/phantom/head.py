"""What surrounds a brain: CSF, skull, scalp, eyes, face and neck, in smooth layers."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from brainjax.phantom.fields import sigmoid
from brainjax.phantom.latents import Subject

if TYPE_CHECKING:
    from brainjax.phantom.anatomy import Anatomy

_CAP_MM = 15.0
_EYES = ((-32.0, 60.0, -38.0), (32.0, 60.0, -38.0))


def head_distance(
    points: Float[np.ndarray, "3 n"], outside: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Gives the mm each template point lies outside the skin (negative inside).

    A smooth union of the brain grown by skull and scalp, a face and a neck.
    """
    x, y, z = points
    cap = outside - _CAP_MM
    face = _ellipsoid(points, (0, 34, -62), (58, 58, 72))
    nose = _ellipsoid(points, (0, 94, -58), (13, 18, 20))
    width = np.hypot(x / 1.05, (y + 28) / 1.15)
    neck = np.maximum(width - 47, z + 40)
    return _union(_union(cap, face), _union(neck, nose, 6), 14)


def add_head(anatomy: "Anatomy", subject: Subject) -> "Anatomy":
    """Gives the anatomy with the head's tissues; see README, "Head".

    CSF, skull and scalp thickness are drawn per subject and vary smoothly.
    """
    rng = subject.stream("head")
    points, outside = anatomy.points, anatomy.maps["outside"]
    width = max(0.4, 0.35 * anatomy.grid.spacing)
    fluid = rng.uniform(1.5, 4.0) + _ripple(points, rng, 0.8)
    bone = fluid + rng.uniform(4.5, 7.0) + _ripple(points, rng, 0.8)
    skin = head_distance(points, outside) + _ripple(points, rng, 1.0)
    z = points[2]

    free = sigmoid(-skin / width)
    parts: dict[str, np.ndarray] = {}

    def take(name: str, share: np.ndarray) -> None:
        nonlocal free
        parts[name] = parts.get(name, 0) + free * share
        free = free * (1 - share)

    brain = sigmoid(-outside / width)
    take("brain", brain)
    cord, canal = _cord(points)
    take("white", sigmoid(-cord / width))
    take("csf", sigmoid((fluid - outside) / width) * sigmoid((z + 66) / 3))
    take("csf", sigmoid(-canal / width))
    cap = sigmoid((bone - outside) / width) * sigmoid((z + 58) / 5)
    middle = (outside - (fluid + bone) / 2) / (0.22 * (bone - fluid).clip(1))
    take("marrow", cap * np.exp(-(middle**2)))
    take("skull", cap)
    for eye in _EYES:
        take("eye", sigmoid(-_ellipsoid(points, eye, (12, 12, 12)) / width))
    take("air", sigmoid(-_airways(points) / width))
    take("marrow", sigmoid(-_spine(points) / width))
    take("fat", sigmoid((skin + rng.uniform(3.5, 6.5)) / width))
    take("muscle", np.ones_like(free))

    within = parts.pop("brain")
    tissues = {name: within * share for name, share in anatomy.tissues.items()}
    for name, share in parts.items():
        tissues[name] = tissues.get(name, 0) + share
    maps = {**anatomy.maps, "inside": sigmoid(-skin / width) > 0.5}
    return anatomy._replace(tissues=tissues, maps=maps)


def _ellipsoid(points: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """About the mm outside an ellipsoid."""
    x, y, z = ((p - c) / r for p, c, r in zip(points, centre, radii, strict=True))
    return (np.sqrt(x * x + y * y + z * z) - 1) * np.float32(min(radii))


def _union(a: np.ndarray, b: np.ndarray, blend: float = 10.0) -> np.ndarray:
    """Smooth minimum of two distances, rounded over `blend` mm."""
    share = np.clip(0.5 + 0.5 * (b - a) / blend, 0, 1)
    return b + (a - b) * share - blend * share * (1 - share)


def _cord(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the spinal cord below the stem and to the canal round it."""
    x, y, z = points
    radius = np.hypot(x, y + 43)
    return np.maximum(radius - 6, z + 70), np.maximum(radius - 10, z + 68)


def _spine(points: np.ndarray) -> np.ndarray:
    """Distance to the vertebral bodies: a column with gaps for the discs."""
    x, y, z = points
    gap = 1.5 * np.cos(2 * np.pi * z / 18)
    return np.maximum(np.hypot(x, y + 20) - 11 + gap, z + 80)


def _airways(points: np.ndarray) -> np.ndarray:
    """Distance to nasal cavity, sinuses, mouth and throat."""
    x, y, z = points
    nasal = _ellipsoid(points, (0, 58, -58), (10, 22, 16))
    sides = _ellipsoid(np.stack([abs(x), y, z]), (26, 48, -66), (10, 14, 13))
    throat = np.maximum(np.hypot(x, y - 14) - 8, z + 72)
    return np.minimum(np.minimum(nasal, sides), throat)


def _ripple(
    points: np.ndarray, rng: np.random.Generator, size: float
) -> Float[np.ndarray, " n"]:
    """A smooth random wave in mm: three directions, wavelengths near 100 mm."""
    wave = np.zeros(points.shape[1], np.float32)
    for _ in range(3):
        x, y, z = rng.normal(0, 0.06, 3).astype(np.float32)
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        wave += np.sin(x * points[0] + y * points[1] + z * points[2] + phase)
    return np.float32(size / 3**0.5) * wave
