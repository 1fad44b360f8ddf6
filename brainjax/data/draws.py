"""The order of a data set on the devices: a step is row numbers, no volumes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from brainjax.data.loader import nothing_readable
from brainjax.data.on_device import OnDevice
from brainjax.data.order import candidates, sample_indices


class Drawn(NamedTuple):
    """One process's slice of a global batch, as `Batch` but without the volumes.

    rows: of `OnDevice.volumes`.
    """

    rows: Int32[np.ndarray, " b"]
    subjects: Int32[np.ndarray, " b"]
    positions: Int32[np.ndarray, " b"]
    records: Int32[np.ndarray, " b"]


class Draws(Iterator[Drawn]):
    """The batches that `loader.batches` would read of the same data set, unread.

    indices: the records to draw from; batch: global size; process p of n gets rows
    p x batch / n and so on. `next` raises InputRefusedError when too many records
    tried for one position are damaged.
    """

    def __init__(
        self,
        held: OnDevice,
        indices: Int[np.ndarray, " n"],
        *,
        batch: int,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        self._held, self._indices = held, np.asarray(indices)
        self._damaged = np.isin(self._indices, list(held.bad))
        local = batch // process_count
        self._slots = process_index * local + np.arange(local)
        self._batch, self._seed, self._step = batch, seed, start_step

    @property
    def bad(self) -> dict[int, str]:
        """The damaged records, with the message of each."""
        return dict(self._held.bad)

    def __next__(self) -> Drawn:
        step, batch = self._step, self._batch
        self._step += 1
        size = len(self._indices)
        chosen = sample_indices(self._seed, step, size=size, batch=batch)[self._slots]
        positions = step * batch + self._slots
        for place in np.flatnonzero(self._damaged[chosen]):
            chosen[place] = self._replace(int(positions[place]))
        records = self._indices[chosen]
        return Drawn(
            self._held.rows[records],
            self._held.subject_ids[records],
            positions.astype(np.int32),
            records.astype(np.int32),
        )

    def _replace(self, position: int) -> int:
        for index in candidates(self._seed, position, size=len(self._indices)):
            if not self._damaged[index]:
                return index
        raise nothing_readable(position, self._held.bad)

    def close(self) -> None:
        """Does nothing: there is nothing to stop."""
