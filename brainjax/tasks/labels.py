"""Labels as tables give them: numbers or words, None where a scan has none."""

import difflib
import math
import numbers
from collections.abc import Collection, Sequence
from typing import Any

from brainjax.errors import InputRefusedError


def is_number(value: Any) -> bool:
    """Says whether a label is a number; True and False are words."""
    return isinstance(value, numbers.Real) and not is_truth(value)


def is_truth(value: Any) -> bool:
    """Says whether a label is True or False, of Python or NumPy."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def known(values: Sequence[Any]) -> list[Any]:
    """Leaves out the scans without a label."""
    return [value for value in values if value is not None]


def number(value: Any, target: str) -> float:
    """Gives a label as a finite number, or raises InputRefusedError."""
    if not is_number(value):
        raise InputRefusedError(
            f"target {target!r}: wanted numbers for a regression, got {value!r}; "
            "a classification takes words"
        )
    if not math.isfinite(value):
        raise InputRefusedError(f"target {target!r}: wanted finite values, got {value}")
    return float(value)


def class_name(value: Any, target: str) -> str:
    """Gives a label as the name of its class: 1 and 1.0 are both class "1".

    Raises:
      InputRefusedError: a number that is not whole, or not finite.
    """
    if not is_number(value):
        return str(value)
    if not math.isfinite(value) or value != int(value):
        raise InputRefusedError(
            f"target {target!r}: wanted classes (words or whole numbers), got {value}; "
            "a regression takes any finite numbers"
        )
    return str(int(value))


def refuse_mixed(values: Sequence[Any], target: str) -> None:
    """Raises InputRefusedError where some labels are numbers and others are not."""
    numeric = [value for value in values if is_number(value)]
    words = [value for value in values if not is_number(value)]
    if numeric and words:
        raise InputRefusedError(
            f"target {target!r}: wanted values of one type, got {len(numeric)} numbers "
            f"such as {numeric[0]} and {len(words)} words such as {words[0]!r}"
        )


def refuse_words(values: Sequence[Any], target: str) -> None:
    """Raises InputRefusedError where labels are not all numbers.

    A table makes text of a whole column in which one entry is a word: that is named.
    """
    refuse_mixed(values, target)
    words = [value for value in values if not is_number(value)]
    odd = [value for value in words if not _reads_as_number(value)]
    if odd and len(odd) < len(words):
        raise InputRefusedError(
            f"target {target!r}: wanted values of one type, got "
            f"{len(words) - len(odd)} numbers and {len(odd)} words such as {odd[0]!r}"
        )


def _reads_as_number(value: Any) -> bool:
    try:
        return not is_truth(value) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def chosen(what: str, name: Any, allowed: Collection[str]) -> str:
    """Gives `name` back, or raises InputRefusedError with the near miss."""
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), sorted(allowed), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputRefusedError(
        f"{what}: wanted one of {', '.join(sorted(allowed))}, got {name!r}{hint}"
    )
