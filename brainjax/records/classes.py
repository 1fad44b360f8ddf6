"""Classes: which raw ids of label maps a network is to tell apart, and as what."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8, UInt16

from brainjax.errors import InputRefusedError

UNKNOWN = 255
"""Class number of voxels that nobody labelled: they never count."""

MAX_ID = 65535
"""Of a raw label map."""

MAX_NUMBERS = 254
"""Class numbers beside the background; 255 is taken."""

ANY = "any"
"""In place of ids: every id but the background's 0."""

Ids = Sequence[int] | str


class Classes(NamedTuple):
    """What the raw ids of a label map stand for; `make_classes` makes one.

    Attributes:
      names: of the n classes, in their order.
      numbers: the class number of every raw id: 0 background, 255 unknown. Where no
        id is in two classes, number i + 1 is class i; else every combination of
        classes that occurs has a number of its own.
      regions: which classes the voxels of a class number are in; number 0 in none.
    """

    names: tuple[str, ...]
    numbers: UInt8[np.ndarray, "65536"]
    regions: Bool[np.ndarray, "k n"]

    def of(
        self, ids: UInt8[np.ndarray, "x y z"] | UInt16[np.ndarray, "x y z"]
    ) -> UInt8[np.ndarray, "x y z"]:
        """Gives the class numbers of a raw label map."""
        return self.numbers[ids]


def make_classes(
    classes: Mapping[str, Ids], *, overlapping: bool = False, ignore: Sequence[int] = ()
) -> Classes:
    """Gives the class numbers of raw ids.

    Args:
      classes: raw ids (1 to 65535) of every class by name, or "any" for all of them.
        Ids of no class are background.
      overlapping: whether an id may be in several classes, as of regions that hold
        each other.
      ignore: ids that are unknown, in no class.

    Raises:
      InputRefusedError: no class, a class without ids, an id out of range, in two
        classes that do not overlap, or ignored; too many classes.
    """
    if not classes:
        raise InputRefusedError("classes: wanted 1 class or more, got none")
    inside = np.zeros((MAX_ID + 1, len(classes)), bool)
    for column, (name, ids) in enumerate(classes.items()):
        inside[_ids(name, ids), column] = True
    ignored = _ids("ignore", ignore) if len(ignore) else []
    _check(inside, ignored, tuple(classes), overlapping)
    if not overlapping:
        regions = np.vstack([np.zeros(len(classes), bool), np.eye(len(classes))]) > 0
        numbers = inside @ np.arange(1, len(classes) + 1)
    else:
        found, first, combination = np.unique(
            inside, axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # id 0, which is in no class, comes first
        regions = found[order]
        numbers = np.argsort(order)[combination.ravel()]
    if len(regions) - 1 > MAX_NUMBERS:
        raise InputRefusedError(
            f"classes: wanted at most {MAX_NUMBERS} classes (or combinations of "
            f"them), got {len(regions) - 1}"
        )
    numbers = numbers.astype(np.uint8)
    numbers[ignored] = UNKNOWN
    return Classes(tuple(classes), numbers, regions)


def _ids(name: str, ids: Ids) -> list[int]:
    if isinstance(ids, str):
        if ids != ANY:
            raise InputRefusedError(f"class {name}: wanted ids or {ANY!r}, got {ids!r}")
        return list(range(1, MAX_ID + 1))
    numbers = [int(number) for number in ids]
    if not numbers or min(numbers) < 1 or max(numbers) > MAX_ID:
        raise InputRefusedError(
            f"class {name}: wanted ids of 1 to {MAX_ID}, got {numbers or 'none'}"
        )
    return numbers


def _check(
    inside: Bool[np.ndarray, "i n"],
    ignored: Sequence[int],
    names: Sequence[str],
    overlapping: bool,
) -> None:
    twice = np.flatnonzero(inside.sum(axis=1) > 1)
    if twice.size and not overlapping:
        number = int(twice[0])
        both = " and ".join(n for n, i in zip(names, inside[number], strict=True) if i)
        raise InputRefusedError(
            f"classes: wanted id {number} in one class, got it in {both}; regions "
            "that hold each other take overlapping"
        )
    both = [number for number in ignored if inside[number].any()]
    if both:
        raise InputRefusedError(
            f"ignore: wanted ids of no class, got {both[0]}, which is in one"
        )
