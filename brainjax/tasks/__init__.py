"""Tasks: what a network's outputs mean, learnt from training labels only.

To add a task: one file, one row in `TASKS`, one row in `evaluate/scores.py`.
"""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Array, Float, Num

from brainjax.errors import InputRefusedError
from brainjax.tasks.classification import Classification
from brainjax.tasks.labels import chosen
from brainjax.tasks.regression import Regression

__all__ = [
    "TASKS",
    "Classification",
    "Regression",
    "Task",
    "make_task",
    "task_from_dict",
]


class Task(Protocol):
    """What every task has; `Regression` and `Classification` explain it.

    Attributes:
      name: row of `TASKS`; constant_name: of `constant`, in words.
      target, unit: the label and its unit.
      outputs: width of the head; constant: the output [k] that looks at no scan.
    """

    name: ClassVar[str]
    constant_name: ClassVar[str]

    @property
    def target(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def outputs(self) -> int: ...
    @property
    def constant(self) -> Float[np.ndarray, " k"]: ...

    def fit(self, values: Sequence[Any], /) -> "Task": ...

    def encode(
        self, values: Sequence[Any], /
    ) -> tuple[Num[np.ndarray, " n"], Float[np.ndarray, " n"]]: ...

    def loss(
        self,
        outputs: Float[Array, "b k"],
        targets: Num[Array, " b"],
        weights: Float[Array, " b"],
        /,
    ) -> Float[Array, ""]: ...

    def columns(self, outputs: Float[np.ndarray, "n k"], /) -> dict[str, list[Any]]: ...

    def to_dict(self) -> dict[str, Any]: ...


TASKS = {"regression": Regression, "classification": Classification}
"""Tasks by the name a config gives."""


def make_task(name: str, **keywords: Any) -> Task:
    """Makes an unfitted task; keywords are those of its `make`.

    Raises:
      InputRefusedError: no such task or keyword, with the near miss, or no target.
    """
    make = TASKS[chosen("task", name, TASKS)].make
    allowed = inspect.signature(make).parameters
    for key in keywords:
        chosen(f"setting of task {name!r}", key, allowed)
    if not keywords.get("target"):
        raise InputRefusedError(
            f"task {name!r}: wanted the target's name, got {keywords.get('target')!r}"
        )
    return make(**keywords)


def task_from_dict(given: dict[str, Any]) -> Task:
    """Reads what `task.to_dict()` gave; fitted if that was.

    Raises:
      InputRefusedError: there is no such task.
    """
    return TASKS[chosen("task", given.get("name"), TASKS)].from_dict(given)
