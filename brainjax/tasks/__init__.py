"""Tasks: what a network's outputs mean, learnt from training labels only.

To add a task: one file, one row in `TASKS`, one row in `evaluate/scores.py`.
"""

import inspect
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.tasks.auto import Auto
from brainjax.tasks.classification import Classification
from brainjax.tasks.labels import chosen
from brainjax.tasks.regression import Regression
from brainjax.tasks.segmentation import Segmentation
from brainjax.tasks.survival import Survival

__all__ = [
    "TASKS",
    "Auto",
    "Classification",
    "Regression",
    "Segmentation",
    "Survival",
    "Task",
    "make_task",
    "task_from_dict",
]


Task = Regression | Classification | Survival
"""What the rest of brainjax takes for a task.

Each has `name` (its row of `TASKS`), `constant_name` (of `constant`, in words),
`target`, `unit`, `columns_read` and `values` (its labels, out of a table); once
fitted, `outputs` (width of the head), `constant` (the output [k] that looks at no
scan), `encode`, `loss`, `decode`, `columns` and `score_higher` (what ranks scans); and
`fit` and `to_dict`.
"""

TASKS = {
    "regression": Regression,
    "classification": Classification,
    "survival": Survival,
    "segmentation": Segmentation,
}
"""Tasks by the name a config gives; "auto" becomes one of the first two in `fit`.

A segmentation answers voxels: it is no `Task`, and has a training of its own.
"""


def make_task(name: str, **keywords: Any) -> Any:
    """Makes an unfitted `Task`, `Auto` or `Segmentation`.

    keywords: those of its `make`, None for the default.

    Raises:
      InputRefusedError: no such task or keyword, with the near miss, or no target.
    """
    known = TASKS | {Auto.name: Auto}
    make = known[chosen("task", name, known)].make
    allowed = inspect.signature(make).parameters
    keywords = {key: value for key, value in keywords.items() if value is not None}
    for key in keywords:
        chosen(f"setting of task {name!r}", key, allowed)
    target = keywords.get("target", allowed["target"].default)
    if not target or target is inspect.Parameter.empty:
        raise InputRefusedError(
            f"task {name!r}: wanted the target's name, got {keywords.get('target')!r}"
        )
    return make(**keywords)


def task_from_dict(given: dict[str, Any]) -> Any:
    """Reads what `task.to_dict()` gave; fitted if that was.

    Raises:
      InputRefusedError: there is no such task.
    """
    return TASKS[chosen("task", given.get("name"), TASKS)].from_dict(given)
