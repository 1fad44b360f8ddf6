"""The parts that structures cut a volume into: what label maps are stored as."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from brainjax.errors import InputRefusedError
from brainjax.records.classes import MAX_ID, MAX_NUMBERS, UNKNOWN, make_classes

Ids = tuple[int, ...] | str
"""Raw ids, or "any" for all but the background's 0."""


class Partition(NamedTuple):
    """The parts that structures cut a volume into, each voxel in exactly one.

    Part 0 is what no structure and no tissue has.

    Attributes:
      table: the part of every raw id, `UNKNOWN` where it is ignored.
      regions: which structures each part belongs to.
      answers: the class (0 background, 1 to n) of each part; of the first structure
        it belongs to, where structures overlap.
      tissues: the tissue of each part, 0 for none.
      mirrored: the part that each becomes where left and right are exchanged; of
        numbers that are no part, themselves.
    """

    table: UInt8[np.ndarray, " i"]
    regions: Bool[np.ndarray, "p n"]
    answers: UInt8[np.ndarray, " p"]
    tissues: UInt8[np.ndarray, " p"]
    mirrored: UInt8[np.ndarray, " 256"]


def partition(
    ids: Mapping[str, Ids],
    *,
    overlapping: bool,
    ignore: tuple[int, ...],
    tissues: Mapping[str, Ids],
    pairs: Sequence[tuple[int, int]],
) -> Partition:
    """Gives the parts that structures, and tissues, cut a volume into.

    pairs: structures (from 0) that are one another's on the other side; the rest as of
    `Segmentation`.

    Raises:
      InputRefusedError: an id of two structures that do not overlap, of two tissues, or
        more than 254 parts.
    """
    classes = make_classes(ids, overlapping=overlapping, ignore=ignore)
    tissue = np.zeros(MAX_ID + 1, np.int64)
    if tissues:
        tissue = make_classes(tissues).numbers.astype(np.int64)
    unknown = classes.numbers == UNKNOWN
    keys = np.where(unknown, 0, classes.numbers.astype(np.int64) * 256 + tissue)
    parts = np.unique(keys)  # Sorted: part 0 is of no structure and no tissue.
    table = np.where(unknown, UNKNOWN, np.searchsorted(parts, keys))
    regions = classes.regions[parts // 256]
    found = (parts % 256).astype(np.uint8)
    regions, found, mirrored = _with_mirrors(regions, found, pairs)
    if len(regions) > MAX_NUMBERS:
        raise InputRefusedError(
            f"task.classes: wanted at most {MAX_NUMBERS} parts that they and tissues "
            f"cut a volume into, got {len(regions)}"
        )
    answers = np.where(regions.any(1), regions.argmax(1) + 1, 0).astype(np.uint8)
    return Partition(table.astype(np.uint8), regions, answers, found, mirrored)


def _with_mirrors(
    regions: Bool[np.ndarray, "p n"],
    tissues: UInt8[np.ndarray, " p"],
    pairs: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray, UInt8[np.ndarray, " 256"]]:
    """Finds the part that each becomes in a mirror; adds those that no id has."""
    swap = np.arange(regions.shape[1])
    for left, right in pairs:
        swap[[left, right]] = right, left
    rows = [(tuple(r), int(t)) for r, t in zip(regions, tissues, strict=True)]
    for row, tissue in list(rows):
        other = tuple(np.array(row)[swap])
        if all(known != other for known, _ in rows):
            rows.append((other, tissue))
    mirrored = np.arange(256, dtype=np.uint8)
    for number, (row, tissue) in enumerate(rows[:MAX_NUMBERS]):
        other = tuple(np.array(row)[swap])
        # The same tissue, if one side has it as the other does.
        best = min(range(len(rows)), key=lambda i: _unlike(rows[i], (other, tissue)))
        mirrored[number] = best if other != row else number
    regions, tissues = (np.array(list(column)) for column in zip(*rows, strict=True))
    return regions.astype(bool), tissues.astype(np.uint8), mirrored


def _unlike(one: tuple, other: tuple) -> tuple[bool, bool]:
    return one[0] != other[0], one[1] != other[1]
