"""Follow-up of a subject: how long it was seen, and whether the event came then."""

from collections.abc import Sequence
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.tasks.labels import is_number, known, number
from brainjax.tasks.stored import Labels

FollowUp = tuple[float, bool]
"""Time of the event or of the last look, and whether the event came at that time."""

_EVENTS = {"1": True, "true": True, "yes": True, "0": False, "false": False}
_EVENTS |= {"no": False}


def follow_up(labels: Labels, target: str, event: str) -> list[FollowUp | None]:
    """Reads times and events of all scans; None where either is unknown.

    Args:
      labels: gives a column; it raises where there is none of that name.
      target: column of times, not negative.
      event: column of 0 and 1, true and false, or yes and no.

    Raises:
      InputRefusedError: a time that is no finite number or negative, another word for
        an event, or no scan that has both.
    """
    times, events = labels(target), labels(event)
    seconds = [None if v is None else came(v, event) for v in events]
    firsts = [None if v is None else time(v, target) for v in times]
    pairs = [
        None if first is None or second is None else (first, second)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    if not known(pairs):
        raise InputRefusedError(
            f"target {target!r}: wanted scans with a time and an {event!r}, got "
            f"{len(known(times))} times and {len(known(events))} events, none of both"
        )
    return pairs


def time(value: Any, target: str) -> float:
    """Gives a time as a number that is not negative, or raises InputRefusedError."""
    found = number(value, target)
    if found < 0:
        raise InputRefusedError(
            f"target {target!r}: wanted times of at least 0, got {found:g}"
        )
    return found


def came(value: Any, event: str) -> bool:
    """Says whether an event came, or raises InputRefusedError for another word."""
    word = f"{value:g}" if is_number(value) else str(value).strip().lower()
    if word not in _EVENTS:
        raise InputRefusedError(
            f"event {event!r}: wanted 0 or 1, true or false, yes or no, got {value!r}"
        )
    return _EVENTS[word]


def by_horizon(pairs: Sequence[FollowUp | None], horizon: float) -> list[str | None]:
    """Says "yes" where the event came by `horizon`, "no" where it had not by then.

    Gives None where a subject was lost before: nobody knows.
    """
    return [None if pair is None else _by(pair, horizon) for pair in pairs]


def _by(pair: FollowUp, horizon: float) -> str | None:
    time, came = pair
    if came and time <= horizon:
        return "yes"
    return "no" if time >= horizon else None


def refuse_twice(what: str, *columns: str) -> None:
    """Raises InputRefusedError where two of a task's columns are the same one."""
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise InputRefusedError(
                f"{what}: wanted different columns for target, event and covariates, "
                f"got {column!r} twice"
            )
