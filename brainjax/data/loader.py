"""Batches out of records: decoded in threads, in the order of `order.py`.

The state of the iterator is the step: `batches(..., start_step=k)` gives what an
uninterrupted iterator gives from step k on, whatever the number of threads.
"""

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from brainjax.data.order import candidates
from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Stored

log = logging.getLogger("brainjax")


@runtime_checkable
class Dataset(Protocol):
    """What the loader needs of a data set; records.store.RecordDataset has it.

    read(i) gives the codes [x, y, z] of record i, or [s, x, y, z] of a case, from any
    thread, or raises InputRefusedError when the record is damaged.
    """

    subject_ids: Int32[np.ndarray, " n"]

    def __len__(self) -> int: ...

    def read(self, index: int, /) -> Stored: ...


class Batch(NamedTuple):
    """One process's slice of a global batch, or of a micro-batch of it.

    volumes: stored codes; subjects: dense subject numbers; positions: global sample
    index, step x batch + slot, which keys the augmentation; records: index in the data
    set, after replacement of bad ones, to look labels up by.
    """

    volumes: UInt8[np.ndarray, "b *s x y z"] | Float32[np.ndarray, "b *s x y z"]
    subjects: Int32[np.ndarray, " b"]
    positions: Int32[np.ndarray, " b"]
    records: Int32[np.ndarray, " b"]


class Loader(Iterator[Batch]):
    """An endless iterator of batches; `bad` names the records that were replaced."""

    def __init__(self, samples: "_Samples", first: int, threads: int, prefetch: int):
        self._samples = samples
        batch = samples.plan.local
        # Grain's own default holds 500 volumes: 440 MB of uint8 at 96 cubed.
        options = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(prefetch * batch, threads)
        )
        numbers = grain.MapDataset.range(first, sys.maxsize)
        self._batches = iter(
            numbers.map(samples.read)
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
    micro_batches: int = 1,
    passes: int = 1,
) -> Loader:
    """Gives the batches of a run from `start_step` on, without end.

    indices: the records to draw from (a split); batch: global size; threads: decoders;
    prefetch: batches kept ready; process p of n gets rows p x batch / n and so on.

    micro_batches: k of a step, given one after another; number j holds the slots j,
    j + k, j + 2k... of the global batch, and process p gets the p-th n-th of them.
    passes: how often in turn a step gives its micro-batches.

    A damaged record is replaced by another of `indices`, drawn with the key of its
    position, named in a warning and in `Loader.bad`. Raises InputRefusedError when
    there are no indices, when micro-batches and processes do not divide the batch and,
    from `next`, when too many records tried for one position are damaged.
    """
    if not len(indices):
        raise InputRefusedError("data: wanted at least 1 record to draw from, got 0")
    if batch < 1 or batch % (micro_batches * process_count):
        raise InputRefusedError(
            f"data: {micro_batches} micro-batches on {process_count} processes do not "
            f"divide a batch of {batch}"
        )
    local = batch // micro_batches // process_count
    plan = _Plan(batch, micro_batches, passes, local, process_index * local)
    samples = _Samples(dataset, np.asarray(indices), seed, plan)
    return Loader(samples, plan.first(start_step), threads, prefetch)


class _Plan(NamedTuple):
    """What one process reads.

    local: samples of a micro-batch that are this process's; offset: how many of it
    belong to the processes before.
    """

    batch: int
    micro_batches: int
    passes: int
    local: int
    offset: int

    def first(self, step: int) -> int:
        """Gives the number of the first sample that this process reads for a step."""
        return step * self.passes * self.micro_batches * self.local

    def position(self, number: int) -> int:
        """Gives the global position of the n-th sample that this process reads."""
        turn, place = divmod(number, self.local)
        step, turn = divmod(turn, self.passes * self.micro_batches)
        micro = turn % self.micro_batches
        slot = micro + self.micro_batches * (self.offset + place)
        return step * self.batch + slot


class _Sample(NamedTuple):
    volume: Stored
    subject: int
    position: int
    record: int


class _Samples:
    """Reads the n-th sample of one process, replacing what is damaged."""

    def __init__(
        self, dataset: Dataset, indices: Int[np.ndarray, " n"], seed: int, plan: _Plan
    ):
        self.plan = plan
        self.bad: dict[int, str] = {}
        self._dataset, self._indices, self._seed = dataset, indices, seed
        self._lock = threading.Lock()

    def read(self, number: int) -> _Sample:
        position = self.plan.position(number)
        for index in candidates(self._seed, position, size=len(self._indices)):
            record = int(self._indices[index])
            volume = self._try(record)
            if volume is not None:
                subject = int(self._dataset.subject_ids[record])
                return _Sample(volume, subject, position, record)
        raise nothing_readable(position, self.bad)

    def _try(self, record: int) -> Stored | None:
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


def nothing_readable(position: int, bad: dict[int, str]) -> InputRefusedError:
    """Gives the refusal of a data set in which too much is damaged."""
    reasons = list(bad.values())
    return InputRefusedError(
        f"data: wanted a readable record for sample {position}, got {len(reasons)} "
        f"damaged ones, the last: {reasons[-1]}"
    )


def _stack(samples: Sequence[_Sample]) -> Batch:
    volumes, *numbers = zip(*samples, strict=True)
    subjects, positions, records = (np.asarray(n, dtype=np.int32) for n in numbers)
    return Batch(np.stack(volumes), subjects, positions, records)
