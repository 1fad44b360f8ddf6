"""What a user says of a foreign file beyond what is in it."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least, triple
from brainjax.tasks import Classification, Regression, Task, make_task
from brainjax.tasks.labels import chosen
from brainjax.volume.recipe import AnyRecipe, make_recipe

MOST_SHAPE, MOST_PATCH = 1024, 64
"""Voxels of an input and of a patch that a network is resized to."""

_FOREIGN = ("regression", "classification")
"""Tasks whose outputs need nothing that only training tells."""


class Statement(NamedTuple):
    """What a file does not tell; `make_statement` reads it from words.

    Attributes:
        origin: row of `ORIGINS`, "" to guess it from the keys.
        recipe: how its scans are prepared; the origin's if None.
        pool: from tokens to features; the origin's, else the encoder's default, if "".
        settings: further constructor keywords of the network.
        shape, patch: resize the encoder to this input, and this patch, in voxels.
        inputs: scans of a subject, whose features are averaged before the head.
        task: what a head's outputs mean; a classification has its classes. None leaves
            it open.
        prefix: of the keys to read, where a file holds several networks.
        ignore: patterns of keys to leave out, as "momentum.*".
    """

    origin: str = ""
    recipe: AnyRecipe | None = None
    pool: str = ""
    settings: Mapping[str, Any] = MappingProxyType({})
    shape: tuple[int, int, int] | None = None
    patch: tuple[int, int, int] | None = None
    inputs: int = 1
    task: Task | None = None
    prefix: str | None = None
    ignore: Sequence[str] = ()


def make_statement(
    *,
    recipe: str | None = None,
    spacing: float | None = None,
    settings: Sequence[str] = (),
    task: str | None = None,
    target: str | None = None,
    unit: str = "",
    classes: str = "",
    **others: Any,
) -> Statement:
    """Reads a statement from the words of a command line.

    Args:
        recipe: row of `RECIPES`; spacing: of its voxels in mm, where it has a choice.
        settings: "key=value" words; a value is a Python literal, else text.
        task: regression or classification, with its target, unit and classes
            ("wildtype,mutant" in the order of the outputs; for one logit, the second
            is the likely one).
        others: further attributes of `Statement`, as they are.

    Raises:
        InputRefusedError: an unknown recipe or task, or words that cannot be read.
    """
    at_least(1, others.get("inputs", 1), "--inputs")
    for name, most in (("shape", MOST_SHAPE), ("patch", MOST_PATCH)):
        if others.get(name) is not None:
            sides = triple(others[name], f"--{name}")
            if max(sides) > most:
                raise InputRefusedError(f"--{name}: wanted at most {most}, got {sides}")
            others[name] = sides
    if spacing is not None and recipe is None:
        raise InputRefusedError("--spacing: wanted --recipe with it, got none")
    return Statement(
        recipe=None if recipe is None else make_recipe(recipe, spacing=spacing),
        settings=dict(map(_setting, settings)),
        task=_task(task, target, unit, classes),
        **others,
    )


def _setting(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not key or not equals:
        raise InputRefusedError(f"--set: wanted key=value, got {word!r}")
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text


def _task(name: str | None, target: str | None, unit: str, classes: str) -> Task | None:
    if name is None:
        words = {"target": target, "classes": classes, "unit": unit}
        for word, value in words.items():
            if value:
                raise InputRefusedError(f"--{word}: wanted --task with it, got none")
        return None
    chosen("--task", name, _FOREIGN)
    task = make_task(name, target=target, unit=unit)
    assert isinstance(task, Classification | Regression)
    names = tuple(word.strip() for word in classes.split(",") if word.strip())
    if isinstance(task, Classification):
        if len(set(names)) < 2 or len(set(names)) != len(names):
            raise InputRefusedError(
                f"--classes: wanted two different names or more, got {classes!r}"
            )
        if unit:
            raise InputRefusedError(f"--unit: wanted none for classes, got {unit!r}")
        return replace(task, classes=names)
    if not unit:
        raise InputRefusedError(
            f"--unit: wanted that of {target} as the head was trained, got none"
        )
    if names:
        raise InputRefusedError(f"--classes: wanted none for a {name}, got {classes!r}")
    return task
