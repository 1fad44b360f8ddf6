"""Tasks as JSON, and as settings: what all of them do the same way."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from brainjax.errors import InputRefusedError

T = TypeVar("T")

Labels = Callable[[str], list[Any]]
"""Gives the labels of a column, one a scan, such as `RecordDataset.labels`."""

_KEYS = {"penalty": "loss"}
"""Attributes that JSON, as a config, has under another name."""


def as_json(task: Any) -> dict[str, Any]:
    """Gives the row of a task and its attributes as JSON values."""
    made = {"name": task.name}
    for field in fields(task):
        value = getattr(task, field.name)
        made[_KEYS.get(field.name, field.name)] = (
            list(value) if isinstance(value, tuple) else value
        )
    return made


def from_json(make: type[T], given: Mapping[str, Any]) -> T:
    """Gives the task that `as_json` wrote; what an older file lacks is the default.

    Raises:
      InputRefusedError: a key that the task does not have.
    """
    names = {_KEYS.get(f.name, f.name): f.name for f in fields(make)}  # type: ignore[arg-type]
    made = {}
    for key, value in given.items():
        if key == "name":
            continue
        if key not in names:
            raise InputRefusedError(
                f"task {given['name']!r}: wanted one of {', '.join(names)}, got {key!r}"
            )
        made[names[key]] = tuple(value) if isinstance(value, list) else value
    return make(**made)


def listed(given: Any) -> tuple[Any, ...]:
    """Gives a setting of several values as a tuple; text is cut at commas."""
    if isinstance(given, str):
        return tuple(word.strip() for word in given.split(",") if word.strip())
    return tuple(given) if isinstance(given, Iterable) else (given,)


def whole(low: int, value: Any, what: str) -> int:
    """Gives a whole number of at least `low`, or raises InputRefusedError."""
    at_least(low, value, what)
    if value != int(value):
        raise InputRefusedError(f"{what}: wanted a whole number, got {value!r}")
    return int(value)


def at_least(low: float, value: Any, what: str) -> None:
    """Raises InputRefusedError where a setting is no number of at least `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value < math.inf:
        raise InputRefusedError(f"{what}: wanted at least {low}, got {value!r}")
