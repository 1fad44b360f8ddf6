"""Tasks: what a network's outputs mean, learnt from training labels only.

To add a task: one file, one row in `TASKS`, one row in `evaluate/scores.py`.
"""

import inspect
from typing import Any

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


Task = Regression | Classification
"""What the rest of brainjax takes for a task.

Each has `name` (its row of `TASKS`), `constant_name` (of `constant`, in words),
`target` and `unit`; once fitted, `outputs` (width of the head), `constant` (the output
[k] that looks at no scan), `encode`, `loss` and `columns`; and `fit` and `to_dict`.
"""

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
