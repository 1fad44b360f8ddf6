"""A task of a study on its data: cases, their labels, who is trained on and tested."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from brainjax.configuration import construct
from brainjax.errors import InputRefusedError
from brainjax.records.cases import Cases
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.study.differences import Cases as Held
from brainjax.study.grid import digest
from brainjax.study.scoring import give_truth, score_name
from brainjax.tasks import Classification, Task, make_task
from brainjax.tasks.labels import known
from brainjax.train.restore import seen_among
from brainjax.train.scans import Split, name_subjects, split_scans

OURS = ("sequences", "fusion")
"""Keys of a task in a study that are not the task's own."""


SHAPING = ("loss", "bins", "spread", "ties", "gamma", "balance")
"""Keys of a task that shape its loss."""


class Problem(NamedTuple):
    """A task on a prepared data set, for one fold.

    Attributes:
      name: key of `config.tasks`; keywords: of the task, with its classes stated.
      sequences: of a case; () where every scan is one. fusion: of their features.
      dataset: the scans. cases: the cases, which may be the scans themselves.
      task: fitted to all training labels; a run fits its own to those it has.
      values: of every case, None where unknown.
      split: cases with a label; every run of the fold tests on all of `split.test`.
      splitting: keywords of `split_scans` that give it.
    """

    name: str
    keywords: dict[str, Any]
    sequences: tuple[str, ...]
    fusion: str
    dataset: RecordDataset
    cases: RecordDataset | Cases
    task: Task
    values: list[Any]
    split: Split
    splitting: dict[str, Any]

    def subjects(self, indices: Sequence[int] | Int[np.ndarray, " n"]) -> list[str]:
        """Names of the subjects of cases."""
        return [self.cases.rows[int(i)]["subject"] for i in indices]

    def held_out(self) -> Held:
        """The test cases, as every run answers for them."""
        rows = [self.cases.rows[int(i)] for i in self.split.test]
        sources = [
            "/".join(str(row[key]) for key in ("subject", "session", "sequence"))
            for row in rows
        ]
        values = [self.values[int(i)] for i in self.split.test]
        return Held(
            sources, self.subjects(self.split.test), give_truth(self.task, values)
        )

    def fit(self, indices: Int[np.ndarray, " n"], *, plain: bool = False) -> Task:
        """The task as a run has it that learns from some of the training cases.

        plain: with the loss that a linear model has: squared error, cross-entropy, Cox.

        Raises:
          InputRefusedError: they are too few, or of one class.
        """
        keywords = self.keywords
        if plain:
            keywords = {k: v for k, v in keywords.items() if k not in SHAPING}
        return make_task(**keywords).fit([self.values[int(i)] for i in indices])


def make_problem(
    name: str,
    settings: dict[str, Any],
    data: Path,
    splitting: dict[str, Any],
    seen: set[str],
) -> Problem:
    """Reads a task's cases and splits them.

    Args:
      name: of the task; settings: of it, as `config.tasks` has them.
      data: the prepared data set.
      splitting: keywords of `split_scans`.
      seen: subjects that an initialisation learnt from: they are not tested on.

    Raises:
      InputRefusedError: a label, a sequence or a setting cannot be used.
    """
    keywords = {k: v for k, v in settings.items() if k not in OURS and v is not None}
    sequences = tuple(settings.get("sequences") or ())
    dataset = open_dataset(data)
    cases = Cases(dataset, sequences) if sequences else dataset
    splitting = _unseen(cases, splitting, seen)
    parts = construct("split", split_scans, dataset=cases, **splitting)
    values = make_task(**keywords).values(cases.labels)
    labelled = np.array([value is not None for value in values])
    split = Split(*(part[labelled[part]] for part in parts))
    if not len(split.train) or not len(split.test):
        raise InputRefusedError(
            f"config.tasks.{name}: wanted labelled cases to train and to test on, got "
            f"{len(split.train)} and {len(split.test)}"
        )
    task = make_task(**keywords).fit([values[i] for i in split.train])
    keywords["name"] = task.name  # no longer "auto", which a draw might see otherwise
    if isinstance(task, Classification) and not task.event:
        # Stated once, so that a draw that lacks a class has the same outputs.
        keywords["classes"] = list(task.classes)
    fusion = str(settings.get("fusion") or "mean")
    return Problem(
        *(name, keywords, sequences, fusion, dataset, cases, task, values),
        *(split, splitting),
    )


def _unseen(cases: Any, splitting: dict[str, Any], seen: set[str]) -> dict[str, Any]:
    """Leaves seen subjects out of the split, unless none of them is tested anyway."""
    split = construct("split", split_scans, dataset=cases, **splitting)
    if not seen_among(name_subjects(cases, split.test), seen):
        return splitting
    everyone = name_subjects(cases, np.arange(len(cases)))
    return {**splitting, "without": seen_among(everyone, seen)}


def case_features(
    problem: Problem, features: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "m *s d"], Bool[np.ndarray, "m s"] | None]:
    """Gives features of cases from those of scans, and which sequences are there.

    Scans by themselves, and cases of one sequence, have one vector each, and None.
    """
    if not isinstance(problem.cases, Cases):
        return features, None
    present, records = problem.cases.present, problem.cases.records
    if len(problem.sequences) == 1:
        return features[records[:, 0]], None
    return np.where(present[..., None], features[records], 0), present


def flat_features(
    problem: Problem, features: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "m w"]:
    """Gives one vector a case, for a linear probe.

    The mean over the sequences that are there; or with fusion "concat" all of them side
    by side, a missing one by 0, and a column for each that says whether it is there.
    """
    found, present = case_features(problem, features)
    if present is None:
        return found
    if problem.fusion == "concat":
        return np.concatenate([found.reshape(len(found), -1), present], axis=1)
    return found.sum(1) / present.sum(1, keepdims=True)


def hash_values(problem: Problem) -> str:
    """Gives 12 hex characters that change with a label, a case or the split."""
    rows = [(r["subject"], r["session"], r["sequence"]) for r in problem.cases.rows]
    known_ = [str(value) for value in known(problem.values)]
    parts = [part.tolist() for part in problem.split]
    text = digest([rows, known_, parts, score_name(problem.task)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
