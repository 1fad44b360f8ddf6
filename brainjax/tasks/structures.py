"""The names and raw ids of structures, as a config states them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.records.classes import ANY
from brainjax.tasks.labels import is_truth
from brainjax.tasks.partition import Ids
from brainjax.tasks.stored import listed

Named = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Raw ids by name."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")
"""What a name may be: it becomes the name of a file, and of a row."""

TAKEN = ("mean",)
"""Names that tables of scores have for something else."""


def read_named(key: str, given: Named) -> dict[str, Ids]:
    """Gives the ids of every name, in their order.

    Raises:
      InputRefusedError: neither a dict nor pairs, a name that is no file name, taken
        or there twice, ids that are no whole numbers.
    """
    pairs = list(given.items() if hasattr(given, "items") else listed(given))  # type: ignore[union-attr]
    found: dict[str, Ids] = {}
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Iterable):
            raise InputRefusedError(f"{key}: wanted names with raw ids, got {pair!r}")
        name, *ids = pair
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in TAKEN:
            raise InputRefusedError(
                f"{key}: wanted names of letters, digits, _ . - and spaces, and not "
                f"{TAKEN[0]!r}, got {name!r}"
            )
        if name in found:
            raise InputRefusedError(f"{key}: wanted {name} once, got it twice")
        if len(ids) != 1:
            raise InputRefusedError(f"{key}: wanted (name, ids), got {tuple(pair)!r}")
        found[name] = ids[0] if ids[0] == ANY else read_ids(f"{key}.{name}", ids[0])
    return found


def read_ids(key: str, given: Any) -> tuple[int, ...]:
    """Gives raw ids: one number, several, or text with commas between.

    Raises:
      InputRefusedError: something else.
    """
    return tuple(_id(key, value) for value in listed(given))


def _id(key: str, value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    whole = isinstance(value, (int, float, np.integer)) and value == np.floor(value)
    if is_truth(value) or not whole:
        raise InputRefusedError(
            f"{key}: wanted ids (whole numbers) or {ANY!r}, got {value!r}"
        )
    return int(value)
