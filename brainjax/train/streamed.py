"""What a step gets of its batch, whole or in micro-batches that are read twice."""

import logging
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int32

from brainjax.errors import InputRefusedError
from brainjax.losses import has_negatives

log = logging.getLogger("brainjax")


class Known(NamedTuple):
    """What this process knows of its slice of a batch."""

    subjects: Int32[np.ndarray, " b"]
    positions: Int32[np.ndarray, " b"]
    records: Int32[np.ndarray, " b"]


class Placed(NamedTuple):
    """What a step gets, and what is known of it."""

    arrays: dict[str, jax.Array]
    known: Known


class Contrast:
    """Warns, once, of a batch whose scans have nothing to be told from.

    everyone: gives the subjects of a whole batch, by step, where this process knows
    but a part of it; None for a task, that needs no contrast.
    """

    def __init__(self, batch: int, everyone: Callable[[int], np.ndarray] | None):
        self._batch, self._everyone = batch, everyone

    def check(self, known: Known) -> None:
        """Looks at a batch, or at the part of it that this process knows."""
        if self._everyone is None or has_negatives(known.subjects):
            return
        step = int(known.positions[0]) // self._batch
        if jax.process_count() > 1 and has_negatives(self._everyone(step)):
            return
        self._everyone = None
        log.warning(
            "a batch holds scans of one subject only: it has no negatives, so its "
            "loss is 0; raise train.batch or add subjects"
        )


class Streamed:
    """One step's batch in k micro-batches that are read twice and never held together.

    `first`, then `second`, give the same k dicts "volumes", "subjects", "positions"
    [b / k, ...] on the mesh, once; number j holds the slots j, j + k, j + 2k... of the
    batch. What is left of a step is skipped when the next is asked for.

    Raises InputRefusedError when a scan cannot be read a second time.
    """

    def __init__(self, placed: Iterator[Placed], count: int, contrast: Contrast):
        self._placed, self._count, self._contrast = placed, count, contrast
        self._seen: list[Known] = []
        self.first, self.second = self._read_first(), self._read_second()

    def _read_first(self) -> Iterator[dict[str, jax.Array]]:
        for _ in range(self._count):
            yield self._meet()
        self._contrast.check(Known(*map(np.concatenate, zip(*self._seen, strict=True))))

    def _meet(self) -> dict[str, jax.Array]:
        # No name for the arrays here: they go when the step is through with them.
        arrays, known = next(self._placed)
        self._seen.append(known)
        return arrays

    def _read_second(self) -> Iterator[dict[str, jax.Array]]:
        if len(self._seen) < self._count:
            raise RuntimeError(
                f"wanted all {self._count} micro-batches of the first pass before the "
                f"second, got {len(self._seen)}"
            )
        for seen in self._seen:
            yield self._meet_again(seen)

    def _meet_again(self, seen: Known) -> dict[str, jax.Array]:
        arrays, known = next(self._placed)
        other = np.flatnonzero(known.records != seen.records)
        if other.size:
            raise InputRefusedError(
                f"data: wanted record {seen.records[other[0]]} a second time for "
                f"sample {seen.positions[other[0]]}, got it damaged"
            )
        return arrays

    def skip(self) -> None:
        """Goes past what is left of this step."""
        for _ in chain(self.first, self.second):
            pass
