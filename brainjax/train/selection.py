"""Which of the training scans a run learns from, and how often each of them comes.

Everything here is by subject and a pure function of a seed and of which draw it is.
Of one draw, fewer labels are a part of more: 5 % of the subjects are among the 10 %.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from brainjax.errors import InputRefusedError
from brainjax.records.store import RecordDataset
from brainjax.tasks import Classification, Segmentation, Task
from brainjax.train.scans import few_subjects

QUANTILES = 5
"""Groups that numbers and times are drawn from as if they were classes."""
BINS = 10
"""Equally wide bins of the target that balancing makes equally frequent."""
BALANCES = ("", "classes", "bins")


class Selection(NamedTuple):
    """What config.data says of the scans of a run.

    Attributes:
      path: of a prepared data set.
      train_subjects: training subjects to draw; 0 for all.
      train_fraction: share of the training subjects to draw.
      train_per_class: K, subjects to draw of each class, or of each fifth of the
        target's values; 0 for all.
      draw: which of the draws.
      sequences: of a case; none where every scan is a sample.
      sequence_dropout: chance that a training step leaves out a sequence of a case.
      balance: what is balanced by repetition: "classes", or "bins" of the target.
      balance_after: the step from which training scans are balanced (FAHR's second
        stage); before it they come as they are.
    """

    path: str
    train_subjects: int = 0
    train_fraction: float = 1.0
    train_per_class: int = 0
    draw: int = 0
    sequences: Sequence[str] = ()
    sequence_dropout: float = 0.0
    balance: str = ""
    balance_after: int = 0

    def check(self) -> "Selection":
        """Gives itself, or raises InputRefusedError for what cannot be."""
        counts = ("train_subjects", "train_per_class", "draw", "balance_after")
        for key in counts:
            value = getattr(self, key)
            if value != int(value) or value < 0:
                _refuse(key, "0 or more", value)
        if not 0 < self.train_fraction <= 1:
            _refuse("train_fraction", "over 0, up to 1", self.train_fraction)
        if not 0 <= self.sequence_dropout < 1:
            _refuse("sequence_dropout", "0 to under 1", self.sequence_dropout)
        if self.sequence_dropout and len(self.sequences) < 2:
            _refuse("sequence_dropout", "0 without sequences", self.sequence_dropout)
        if self.balance not in BALANCES:
            _refuse("balance", f"one of {BALANCES}", self.balance)
        asked = {
            "train_subjects": self.train_subjects > 0,
            "train_fraction": self.train_fraction < 1,
            "train_per_class": self.train_per_class > 0,
        }
        names = [name for name, is_asked in asked.items() if is_asked]
        if len(names) > 1:
            _refuse(names[0], f"no {names[1]} with it", getattr(self, names[0]))
        return self


def select(
    chosen: Selection,
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    task: Task | Segmentation,
    values: Sequence[Any],
    *,
    seed: int,
) -> Int[np.ndarray, " m"]:
    """Draws the training scans that a run may learn from.

    Args:
      chosen: how many.
      dataset: of scans or cases.
      indices: the labelled scans of the training part.
      task: fitted to all of them.
      values: of every scan of the data set, as `task.values` gives them.
      seed: of the run.

    Raises:
      InputRefusedError: more subjects than there are.
    """
    if chosen.train_per_class:
        return _per_class(chosen, dataset, indices, task, values, seed=seed)
    if chosen.train_fraction < 1:
        return _fraction(chosen, dataset, indices, task, values, seed=seed)
    return few_subjects(
        dataset, indices, count=chosen.train_subjects, seed=seed, draw=chosen.draw
    )


def balanced(
    kind: str,
    indices: Int[np.ndarray, " n"],
    task: Task,
    values: Sequence[Any],
    *,
    seed: int,
) -> Int[np.ndarray, " m"]:
    """Repeats scans until every class, or bin of the target, has as many.

    Bins are `BINS` of one width from the smallest to the largest value; empty ones
    stay empty. Each of a group's scans comes n or n + 1 times; which, is drawn.

    Raises:
      InputRefusedError: classes of a number, or bins of a class.
    """
    if (kind == "classes") != isinstance(task, Classification):
        _refuse("balance", f"bins or classes that a {task.name} has", kind)
    given = [values[i] for i in indices]
    groups = _names(task, given) if kind == "classes" else _even_bins(given)
    members = [indices[groups == group] for group in np.unique(groups)]
    most = max(map(len, members))
    draw = np.random.default_rng([seed, most])
    return np.concatenate([np.resize(draw.permutation(m), most) for m in members])


def _per_class(
    chosen: Selection,
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    task: Task | Segmentation,
    values: Sequence[Any],
    *,
    seed: int,
) -> Int[np.ndarray, " m"]:
    """Draws K subjects of every class, and of each its scans of that class."""
    count, ids = chosen.train_per_class, dataset.subject_ids[indices]
    groups = strata(task, [values[i] for i in indices])
    kept = np.zeros(len(indices), bool)
    taken: set[int] = set()
    for group, there in _permuted(ids, groups, key=[seed, 1, chosen.draw]):
        # A subject with scans of several classes stands for one of them.
        free = [subject for subject in there if subject not in taken]
        if len(free) < count:
            _refuse(
                "train_per_class", f"at most {len(free)}, as {group!r} has left", count
            )
        taken |= set(free[:count])
        kept |= (groups == group) & np.isin(ids, free[:count])
    return indices[kept]


def _fraction(
    chosen: Selection,
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    task: Task | Segmentation,
    values: Sequence[Any],
    *,
    seed: int,
) -> Int[np.ndarray, " m"]:
    """Draws a share of the subjects, of every class as large a share as can be."""
    ids = dataset.subject_ids[indices]
    groups = strata(task, [values[i] for i in indices])
    # The class of a subject's first scan is the subject's.
    subjects, first = np.unique(ids, return_index=True)
    draw = np.random.default_rng([seed, 2, chosen.draw])
    places: dict[int, float] = {}
    for _, there in _permuted(subjects, groups[first], key=[seed, 3, chosen.draw]):
        start = draw.uniform()
        places |= {s: (i + start) / len(there) for i, s in enumerate(there)}
    count = max(1, round(chosen.train_fraction * len(subjects)))
    drawn = sorted(places, key=places.__getitem__)[:count]
    return indices[np.isin(ids, drawn)]


def strata(task: Task | Segmentation, values: Sequence[Any]) -> np.ndarray:
    """Gives the class of known labels, or the fifth that a number or time lies in."""
    if isinstance(task, Classification):
        return _names(task, values)
    numbers = _numbers(values)
    edges = np.quantile(numbers, np.arange(1, QUANTILES) / QUANTILES)
    return np.searchsorted(edges, numbers, side="left")


def _permuted(
    ids: Int[np.ndarray, " n"], groups: np.ndarray, *, key: list[int]
) -> list[tuple[Any, list[int]]]:
    """Gives every group with its subjects in an order of its own."""
    found = []
    for number, group in enumerate(np.unique(groups)):
        there = np.unique(ids[groups == group])
        draw = np.random.default_rng([*key, number])
        found.append((group, draw.permutation(there).tolist()))
    return found


def _names(task: Any, values: Sequence[Any]) -> np.ndarray:
    assert isinstance(task, Classification)
    return np.array(task.names(values))


def _even_bins(values: Sequence[Any]) -> Int[np.ndarray, " n"]:
    numbers = _numbers(values)
    edges = np.linspace(numbers.min(), numbers.max(), BINS + 1)[1:-1]
    return np.searchsorted(edges, numbers, side="right")


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """Gives numbers; of (time, event) the times."""
    return np.array([v[0] if isinstance(v, tuple) else v for v in values], float)


def _refuse(key: str, wanted: str, got: Any) -> None:
    raise InputRefusedError(f"config.data.{key}: wanted {wanted}, got {got!r}")
