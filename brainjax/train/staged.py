"""Training in stages: the same batches, from another list of scans after some step.

What comes when stays a pure function of (seed, step), so that a run that goes on in the
middle of a stage sees what an uninterrupted one does.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from brainjax.parallel import gather
from brainjax.train.input import Input


class Stage(NamedTuple):
    """From step `first` on, batches are drawn from the scans `indices`."""

    first: int
    indices: Int[np.ndarray, " n"]


class StagedInput(Iterator[Any]):
    """Batches of one stage after the other, each opened when its turn comes.

    Args:
      open_stage: (indices, start_step) -> batches.
      stages: in order; the first begins at step 0.
      start_step: the first step to give.
    """

    def __init__(
        self,
        open_stage: Callable[[Int[np.ndarray, " n"], int], Input],
        stages: Sequence[Stage],
        start_step: int,
    ):
        self._open, self._stages, self._step = open_stage, stages, start_step
        self._bad: dict[str, str] = {}
        self._now = self._stage()
        self._input = open_stage(stages[self._now].indices, start_step)

    def __next__(self) -> Any:
        stage = self._stage()
        if stage != self._now:
            self.close()  # before the next one takes as much memory
            self._now = stage
            self._input = self._open(self._stages[stage].indices, self._step)
        self._step += 1
        return next(self._input)

    def all_bad(self) -> dict[str, str]:
        """Gives the scans of all stages that were replaced; all processes must ask."""
        mine = self._bad | self._input.bad
        return {k: why for part in gather(mine) for k, why in part.items()}

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._bad |= self._input.bad
        self._input.close()

    def _stage(self) -> int:
        begun = [i for i, s in enumerate(self._stages) if s.first <= self._step]
        return begun[-1]
