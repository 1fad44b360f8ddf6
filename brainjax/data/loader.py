"""Batches out of records: decoded in threads, in the order of `order.py`.

The state of the iterator is the step: `batches(..., start_step=k)` gives what an
uninterrupted iterator gives from step k on, whatever the number of threads.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from brainjax.data.order import replacement, sample_index
from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Codes

log = logging.getLogger("brainjax")
ATTEMPTS = 64
"""Records tried for one position before the data set is refused."""
LAST_POSITION = 2**31 - 1


@runtime_checkable
class Dataset(Protocol):
    """What the loader needs of a data set; records.store.RecordDataset has it.

    read(i) gives the codes [x, y, z] of record i from any thread, or raises
    InputRefusedError when the record is damaged.
    """

    subject_ids: Int32[np.ndarray, " n"]

    def __len__(self) -> int: ...

    def read(self, index: int, /) -> Codes: ...


class Batch(NamedTuple):
    """One process's slice of a global batch.

    volumes: stored codes; subjects: dense subject numbers; positions: global sample
    index, step x batch + slot, which keys the augmentation; records: index in the data
    set, after replacement of bad ones, to look labels up by.
    """

    volumes: UInt8[np.ndarray, "b x y z"] | Float32[np.ndarray, "b x y z"]
    subjects: Int32[np.ndarray, " b"]
    positions: Int32[np.ndarray, " b"]
    records: Int32[np.ndarray, " b"]


class Loader(Iterator[Batch]):
    """An endless iterator of batches; `bad` names the records that were replaced."""

    def __init__(self, samples: "_Samples", first: int, threads: int, prefetch: int):
        self._samples = samples
        batch = samples.local_batch
        # Grain's own default holds 500 volumes: 440 MB of uint8 at 96 cubed.
        options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch * batch, threads)
        )
        positions = grain.MapDataset.range(first * batch, LAST_POSITION)
        self._batches = iter(
            positions.map(samples.read)
            .to_iter_dataset(options)
            .batch(batch, batch_fn=_stack)
        )

    @property
    def bad(self) -> dict[int, str]:
        """The damaged records met so far, with the message of each."""
        return dict(self._samples.bad)

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """Stops the threads; the loader gives nothing afterwards."""
        self._batches.close()


def batches(
    dataset: Dataset,
    indices: Int[np.ndarray, " n"],
    *,
    batch: int,
    seed: int,
    start_step: int = 0,
    threads: int = 4,
    prefetch: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Loader:
    """Gives the batches of a run from `start_step` on, without end.

    indices: the records to draw from (a split); batch: global size; threads: decoders;
    prefetch: batches kept ready; process p of n gets rows p x batch / n and so on.

    A damaged record is replaced by another of `indices`, drawn with the key of its
    position, named in a warning and in `Loader.bad`. Raises InputRefusedError when
    there are no indices, when the processes do not divide the batch and, from `next`,
    when too many records tried for one position are damaged.
    """
    if not len(indices):
        raise InputRefusedError("data: wanted at least 1 record to draw from, got 0")
    if batch < 1 or batch % process_count:
        raise InputRefusedError(
            f"data: {process_count} processes do not divide a batch of {batch}"
        )
    samples = _Samples(dataset, indices, batch, seed, process_index, process_count)
    return Loader(samples, start_step, threads, prefetch)


class _Sample(NamedTuple):
    volume: Codes
    subject: int
    position: int
    record: int


class _Samples:
    """Reads the n-th sample of one process, replacing what is damaged."""

    def __init__(
        self,
        dataset: Dataset,
        indices: Int[np.ndarray, " n"],
        batch: int,
        seed: int,
        process_index: int,
        process_count: int,
    ):
        self.local_batch = batch // process_count
        self.bad: dict[int, str] = {}
        self._dataset, self._indices = dataset, np.asarray(indices)
        self._batch, self._seed = batch, seed
        self._first_slot = process_index * self.local_batch
        self._lock = threading.Lock()

    def read(self, number: int) -> _Sample:
        step, slot = divmod(number, self.local_batch)
        position = step * self._batch + self._first_slot + slot
        for attempt in range(min(len(self._indices), ATTEMPTS) + 1):
            record = self._record(position, attempt)
            volume = self._try(record)
            if volume is not None:
                subject = int(self._dataset.subject_ids[record])
                return _Sample(volume, subject, position, record)
        reasons = list(self.bad.values())
        raise InputRefusedError(
            f"data: wanted a readable record for sample {position}, got {len(reasons)} "
            f"damaged ones, the last: {reasons[-1]}"
        )

    def _record(self, position: int, attempt: int) -> int:
        size = len(self._indices)
        if attempt:
            index = replacement(self._seed, position, attempt, size=size)
        else:
            index = sample_index(self._seed, position, size=size)
        return int(self._indices[index])

    def _try(self, record: int) -> Codes | None:
        if record in self.bad:
            return None
        try:
            return self._dataset.read(record)
        except InputRefusedError as error:
            with self._lock:
                if record not in self.bad:
                    self.bad[record] = str(error)
                    log.warning("replacing record %d (%s)", record, error)
            return None


def _stack(samples: Sequence[_Sample]) -> Batch:
    volumes, *numbers = zip(*samples, strict=True)
    subjects, positions, records = (np.asarray(n, dtype=np.int32) for n in numbers)
    return Batch(np.stack(volumes), subjects, positions, records)
