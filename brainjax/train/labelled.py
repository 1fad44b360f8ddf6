"""Which scans a fine-tuning run learns from, and what it is told about them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from brainjax.configuration import Config, construct
from brainjax.errors import InputRefusedError
from brainjax.records.store import RecordDataset
from brainjax.tasks import Task, make_task
from brainjax.train.scans import Split, split_scans
from brainjax.train.selection import Selection, select


class Labels(NamedTuple):
    """A data set with the task's value of every scan.

    Attributes:
      dataset: of scans or cases.
      split: labelled ones only; the training part may be a few subjects.
      task: fitted to the training part.
      values: of every scan, None where unknown.
    """

    dataset: RecordDataset
    split: Split
    task: Task
    values: Sequence[Any]

    def of(self, indices: Int[np.ndarray, " n"]) -> list[Any]:
        """Gives the values of some scans."""
        return [self.values[i] for i in indices]

    def subjects(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Gives the subject of each of some scans."""
        return [self.dataset.rows[i]["subject"] for i in indices]


def label_scans(config: Config, dataset: RecordDataset, selection: Selection) -> Labels:
    """The config's split, without scans that lack the target, and its task.

    The task is fitted to the training scans that `selection` draws.

    Raises:
      InputRefusedError: labels that the task cannot use; names the data set.
    """
    task = construct("task", make_task, **config.task)
    split = construct("split", split_scans, dataset=dataset, **config.split)
    with _naming(dataset):
        values = task.values(dataset.labels)
        known = np.array([value is not None for value in values], bool)
        parts = Split(*(part[known[part]] for part in split))
        if not len(parts.train) or not len(parts.val):
            raise InputRefusedError(
                f"wanted scans labelled {task.target!r} to train and to validate on, "
                f"got {len(parts.train)} and {len(parts.val)}"
            )
        fitted = task.fit([values[i] for i in parts.train])
        train = select(
            selection, dataset, parts.train, fitted, values, seed=config.seed
        )
        fitted = task.fit([values[i] for i in train])
        fitted.encode(values)
    return Labels(dataset, parts._replace(train=train), fitted, values)


@contextmanager
def _naming(dataset: RecordDataset) -> Iterator[None]:
    """Says which data set a refusal is about, where it does not."""
    try:
        yield
    except InputRefusedError as error:
        if str(error).startswith((str(dataset.folder), "config.")):
            raise
        raise InputRefusedError(f"{dataset.folder}: {error}") from None
