"""Nested dicts of arrays, and the same by dotted path."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Gives the leaves of a nested dict by dotted path, NumPy."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = np.asarray(value)
    return found


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, of arrays of any kind.

    Raises ValueError where a path is the beginning of another one.
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        place = tree
        for key in parents:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"{path} lies below another array")
        if name in place:
            raise ValueError(f"{path} is there twice")
        place[name] = leaf
    return tree
