"""Few labelled subjects, drawn again and again: the very ones that `finetune` draws."""

import numpy as np
from jaxtyping import Int

from brainjax.study.grid import Cell
from brainjax.study.problems import Problem
from brainjax.train.selection import Selection, select


def selection_words(cell: Cell) -> dict[str, float | int]:
    """Gives the keys of `config.data` that draw the labelled subjects of a run."""
    return {
        "train_fraction": cell.budget.fraction / 100 or 1.0,
        "train_per_class": cell.budget.per_class,
        "draw": cell.draw,
    }


def draw_cases(problem: Problem, cell: Cell) -> Int[np.ndarray, " n"]:
    """Gives the training cases of a run.

    Raises:
      InputRefusedError: more subjects of a class than there are.
    """
    words = selection_words(cell)
    chosen = Selection(str(problem.dataset.folder), **words).check()  # pyright: ignore
    cases, train = problem.cases, problem.split.train
    return select(chosen, cases, train, problem.task, problem.values, seed=cell.seed)
