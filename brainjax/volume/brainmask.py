"""The brain of a scan, by one of several back ends, and how well they agree."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from brainjax.errors import InputRefusedError
from brainjax.volume.brain_commands import COMMANDS, find_by_command, find_program
from brainjax.volume.brain_own import NO_WEIGHTS, find_by_network, has_weights
from brainjax.volume.brain_template import find_by_template
from brainjax.volume.mask import foreground, looks_stripped, millilitres
from brainjax.volume.register import Alignment
from brainjax.volume.scan import spacing_of

BRAIN_ML = (600.0, 2200.0)
"""What the brains of adults have, outer fluid included, with room on either side."""

BORDER_MM2 = 1500.0
"""A stem meets the border of a field of view in less than this; more is cut off."""

Voxels = Float32[np.ndarray, "x y z"]
Matrix = Float64[np.ndarray, "4 4"]
Finder = Callable[[Voxels, Matrix], Bool[np.ndarray, "x y z"]]
"""Gives the brain of a RAS+ scan and its affine: what a back end is."""


class Brain(NamedTuple):
    """The brain of a scan.

    mask: on the scan's own grid.
    backend: the one that found it, never "auto".
    ml: its volume.
    doubts: one line each; none where nothing is odd.
    """

    mask: Bool[np.ndarray, "x y z"]
    backend: str
    ml: float
    doubts: tuple[str, ...]


class Agreement(NamedTuple):
    """How alike two masks are: Dice, 95th percentile of the surface distance (mm), and
    the first's volume less the second's (ml). None where a mask is empty."""

    dice: float
    hausdorff95_mm: float | None
    first_minus_second_ml: float


def find_brain(
    voxels: Voxels,
    affine: Matrix,
    *,
    backend: str = "auto",
    alignment: Alignment | None = None,
) -> Brain:
    """Gives the brain of a RAS+ scan.

    Args:
        voxels: the scan.
        affine: its voxel indices to mm.
        backend: a row of BACKENDS, or "auto": see `choose`.
        alignment: to the template, where it is known; "template" finds its own if not.

    Raises InputRefusedError for an unknown back end, one that is not installed
    or fails, and an empty mask.
    """
    _need_known(backend)
    if backend == "auto":
        backend = choose(voxels, affine)
    finder: Finder = BACKENDS[backend]
    if backend == "template":
        finder = partial(find_by_template, alignment=alignment)
    mask = finder(voxels, affine)
    if not mask.any():
        raise InputRefusedError(f"mask: wanted a brain, got none from {backend}")
    spacing = spacing_of(affine)
    ml = millilitres(mask, affine)
    return Brain(mask, backend, round(ml, 1), find_doubts(mask, spacing, ml))


def check_backend(name: str) -> None:
    """Refuses what is no back end, or not installed, before any scan is worked on."""
    _need_known(name)
    need_backend(name)


def _need_known(name: str) -> None:
    if name not in ("auto", *BACKENDS):
        known = ", ".join(["auto", *BACKENDS])
        raise InputRefusedError(f"mask: wanted one of {known}, got {name!r}")


def need_backend(name: str) -> None:
    """Refuses a back end that is not installed, before any scan is worked on."""
    if name in COMMANDS:
        find_program(name)
    elif BACKENDS.get(name) is find_by_network and not has_weights():
        raise InputRefusedError(NO_WEIGHTS)


def choose(voxels: Voxels, affine: Matrix) -> str:
    """Gives what "auto" stands for: "nonzero" for a stripped scan, else `for_heads`."""
    stripped = looks_stripped(voxels, foreground(voxels), spacing_of(affine))
    return "nonzero" if stripped else for_heads()


def for_heads() -> str:
    """Gives what "auto" stands for in a head: "own", "template" without its weights."""
    return "own" if has_weights() else "template"


def register_own(finder: Finder) -> None:
    """Makes another network the back end "own", for this process."""
    BACKENDS["own"] = finder


def find_doubts(
    mask: Bool[np.ndarray, "x y z"], spacing: tuple, ml: float
) -> tuple[str, ...]:
    """Gives what is odd about a brain mask: its volume, and faces that cut it."""
    doubts = []
    low, high = BRAIN_ML
    if not low <= ml <= high:
        doubts.append(f"brain of {ml:.0f} ml, adults have {low:.0f}-{high:.0f}")
    sides = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    for axis, names in enumerate(sides):
        area = np.prod(spacing) / spacing[axis]
        for name, face in zip(names, (0, -1), strict=True):
            cut = float(np.count_nonzero(mask.take(face, axis)) * area)
            if cut > BORDER_MM2:
                doubts.append(f"brain cut off on the {name} side ({cut / 100:.0f} cm2)")
    return tuple(doubts)


def agreement(
    masks: dict[str, Bool[np.ndarray, "x y z"]], affine: Matrix
) -> dict[tuple[str, str], Agreement]:
    """Gives how alike each two masks of one scan are, in the order they are named."""
    return {
        pair: compare(masks[pair[0]], masks[pair[1]], affine)
        for pair in itertools.combinations(masks, 2)
    }


def compare(
    one: Bool[np.ndarray, "x y z"], other: Bool[np.ndarray, "x y z"], affine: Matrix
) -> Agreement:
    """Gives how alike two masks are; distances run between their border voxels."""
    ml = millilitres(one, affine) - millilitres(other, affine)
    total = np.count_nonzero(one) + np.count_nonzero(other)
    if not (one.any() and other.any()):
        return Agreement(1.0 if total == 0 else 0.0, None, ml)
    both = np.count_nonzero(one & other)
    borders = _border(one), _border(other)
    spacing = spacing_of(affine)
    distances = [
        np.asarray(ndimage.distance_transform_edt(~there, sampling=spacing))[here]
        for here, there in (borders, borders[::-1])
    ]
    far = float(np.percentile(np.concatenate(distances), 95))
    return Agreement(float(2 * both / total), far, ml)


def _border(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    return mask & ~np.asarray(ndimage.binary_erosion(mask), bool)


def _nonzero(voxels: Voxels, affine: Matrix) -> Bool[np.ndarray, "x y z"]:
    return foreground(voxels)


BACKENDS: dict[str, Finder] = {
    "template": find_by_template,
    "nonzero": _nonzero,
    **{name: partial(find_by_command, name) for name in COMMANDS},
    "own": find_by_network,
}
