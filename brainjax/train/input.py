"""From a data set to batches on the mesh: what a training step takes.

A thread reads and copies ahead while the step runs. What comes when is a function of
(seed, step) alone, so the state of all this is the step.
"""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, Int, Int32, UInt8

from brainjax.data import (
    Batch,
    Drawn,
    Draws,
    Loader,
    batches,
    load_on_devices,
    load_resident,
    sample_indices,
)
from brainjax.data.ahead import Ahead
from brainjax.errors import InputRefusedError
from brainjax.parallel import gather, put_batch
from brainjax.records.store import RecordDataset
from brainjax.train.streamed import Contrast, Known, Placed, Streamed

SOURCES = ("stream", "resident", "device")
"""Scans come from the shards, from the memory of the host, from that of the devices."""

Labels = tuple[np.ndarray, Float[np.ndarray, " n"]]
MAX_THREADS = 32


class Input(Iterator[Any]):
    """Batches on the mesh, at most two of them (or micro-batches) ahead.

    `next` gives a dict of arrays [b, ...], split over all devices: "volumes" as stored
    (or "rows" of "dataset", the same array every time), "subjects", "positions" and,
    for a task, "targets" and "weights"; or `Streamed`, for a batch too large to hold.
    What went wrong while reading ahead is raised when its turn comes.
    """

    def __init__(
        self,
        loader: Loader | Draws,
        placing: "_Placing",
        contrast: Contrast,
        dataset: RecordDataset,
        micro_batches: int,
    ):
        self._loader, self._dataset = loader, dataset
        self._contrast, self._count = contrast, micro_batches
        self._placed = Ahead(map(placing, loader))
        self._streamed: Streamed | None = None

    @property
    def bad(self) -> dict[str, str]:
        """Why a scan was replaced by another, by its source."""
        rows = self._dataset.rows
        return {rows[i]["source"]: why for i, why in self._loader.bad.items()}

    def all_bad(self) -> dict[str, str]:
        """Gives `bad` of all processes: each reads its own scans; all must ask."""
        return {k: why for part in gather(self.bad) for k, why in part.items()}

    def __next__(self) -> Any:
        if self._count == 1:
            placed = next(self._placed)
            self._contrast.check(placed.known)
            return placed.arrays
        if self._streamed is not None:
            self._streamed.skip()
        self._streamed = Streamed(self._placed, self._count, self._contrast)
        return self._streamed

    def close(self) -> None:
        """Ends the threads that read ahead; nothing comes afterwards."""
        self._placed.close()
        self._loader.close()


class _Placing:
    """Puts what a loader gives on the mesh, and waits until it is there."""

    def __init__(self, mesh: Mesh, labels: Labels | None, held: jax.Array | None):
        self._mesh, self._labels, self._held = mesh, labels, held

    def __call__(self, batch: Batch | Drawn) -> Placed:
        known = Known(batch.subjects, batch.positions, batch.records)
        mine = {"subjects": known.subjects, "positions": known.positions}
        if isinstance(batch, Batch):
            mine["volumes"] = batch.volumes
        else:
            mine["rows"] = batch.rows
        if self._labels is not None:
            targets, weights = self._labels
            mine["targets"] = targets[known.records]
            mine["weights"] = weights[known.records]
        arrays = jax.block_until_ready(put_batch(mine, self._mesh))
        if self._held is not None:
            arrays["dataset"] = self._held
        return Placed(arrays, known)


class _Order(NamedTuple):
    """What decides which scan comes when, and which slice of a batch is read here.

    `make_mesh` keeps the devices of a process together, so that a slice is contiguous.
    """

    indices: Int[np.ndarray, " n"]
    batch: int
    seed: int
    start_step: int
    process_index: int
    process_count: int

    def subjects(self, dataset: RecordDataset, step: int) -> Int32[np.ndarray, " b"]:
        """The subjects of a step, but for replaced records."""
        size = len(self.indices)
        drawn = sample_indices(self.seed, step, size=size, batch=self.batch)
        return dataset.subject_ids[self.indices[drawn]]


def open_input(
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    *,
    batch: int,
    seed: int,
    start_step: int,
    mesh: Mesh,
    source: str = "resident",
    labels: Labels | None = None,
    micro_batches: int = 1,
    negatives: str = "between",
) -> Input:
    """Opens the batches of a run from one step on, and begins to read ahead.

    Args:
      dataset: prepared scans.
      indices: the scans to draw from.
      batch: size over all devices and processes.
      seed: of the order.
      start_step: the first step to give.
      mesh: where batches go.
      source: "resident" reads the scans into memory once, "device" onto the devices of
        the mesh, "stream" as they are needed.
      labels: targets and weights of every scan of the data set, for a task.
      micro_batches: k of a step. Where k is more than 1, source "stream" gives
        `Streamed`; the others give the whole batch all the same.
      negatives: of the loss; "between" subjects, a batch of one subject is warned of.

    Raises:
      InputRefusedError: an unknown source, no scans, a batch that does not divide, a
        device with too little memory.
    """
    if source not in SOURCES:
        raise InputRefusedError(
            f"config.data.source: wanted one of {', '.join(SOURCES)}, got {source!r}"
        )
    if batch < 1 or batch % (micro_batches * mesh.size):
        parts = f" x {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise InputRefusedError(
            f"config.train.batch: wanted a multiple of {mesh.size} devices{parts}, "
            f"got {batch}"
        )
    here = jax.process_index(), jax.process_count()
    order = _Order(np.asarray(indices), batch, seed, start_step, *here)
    volumes = None
    if source == "device":
        held = load_on_devices(dataset, indices, mesh, threads=_threads())
        loader, volumes = Draws(held, **order._asdict()), held.volumes
    else:
        loader = _read(dataset, order, source, micro_batches)
    placing = _Placing(mesh, labels, volumes)
    needed = labels is None and negatives == "between"
    contrast = Contrast(batch, partial(order.subjects, dataset) if needed else None)
    count = micro_batches if source == "stream" else 1
    return Input(loader, placing, contrast, dataset, count)


def _read(
    dataset: RecordDataset, order: _Order, source: str, micro_batches: int
) -> Loader:
    threads = _threads()
    # One batch ready here, and two on the devices.
    words = {**order._asdict(), "threads": threads, "prefetch": 1}
    if source == "resident":
        return batches(load_resident(dataset, order.indices, threads=threads), **words)
    passes = 2 if micro_batches > 1 else 1
    return batches(dataset, **words, micro_batches=micro_batches, passes=passes)


def _threads() -> int:
    """As many as this process may use, for decoding."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(max(4, cores), MAX_THREADS)


def read_volumes(
    dataset: RecordDataset, indices: Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n *s x y z"] | Float32[np.ndarray, "n *s x y z"]:
    """Reads scans in the order of `indices`.

    Raises:
      InputRefusedError: one of them is damaged; it is named.
    """
    return np.stack([dataset.read(int(index)) for index in indices])
