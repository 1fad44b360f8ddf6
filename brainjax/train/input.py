"""From a data set to batches on the mesh: what a training step takes."""

import logging
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from brainjax.data import Loader, batches, load_resident
from brainjax.errors import InputRefusedError
from brainjax.losses import has_negatives
from brainjax.parallel import put_batch
from brainjax.records.store import RecordDataset

log = logging.getLogger("brainjax")

SOURCES = ("resident", "stream")


class Input(Iterator[dict]):
    """Batches on the mesh, with the targets of a task where there is one."""

    def __init__(self, loader: Loader, dataset: RecordDataset, mesh, labels):
        self._loader, self._dataset, self._mesh = loader, dataset, mesh
        self._labels = labels
        self._warned = labels is not None  # negatives matter to contrast only

    @property
    def bad(self) -> dict[str, str]:
        """Why a scan was replaced by another, by its source."""
        rows = self._dataset.rows
        return {rows[i]["source"]: why for i, why in self._loader.bad.items()}

    def __next__(self) -> dict[str, jax.Array]:
        batch = next(self._loader)
        arrays = {
            "volumes": batch.volumes,
            "subjects": batch.subjects,
            "positions": batch.positions,
        }
        if self._labels is not None:
            targets, weights = self._labels
            arrays |= {
                "targets": targets[batch.records],
                "weights": weights[batch.records],
            }
        if not self._warned and not has_negatives(batch.subjects):
            self._warned = True
            log.warning(
                "a batch holds scans of one subject only: it has no negatives, so its "
                "loss is 0; raise train.batch or add subjects"
            )
        return put_batch(arrays, self._mesh)


def open_input(
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    *,
    batch: int,
    seed: int,
    start_step: int,
    mesh: jax.sharding.Mesh,
    source: str = "resident",
    labels: tuple[np.ndarray, Float[np.ndarray, " n"]] | None = None,
) -> Input:
    """Opens the batches of a run from one step on.

    Args:
      dataset: prepared scans.
      indices: the scans to draw from.
      batch: size over all devices and processes.
      seed: of the order.
      start_step: the first step to give.
      mesh: where batches go.
      source: "resident" reads the scans into memory once, "stream" as they are needed.
      labels: targets and weights of every scan of the data set, for a task.

    Raises:
      InputRefusedError: an unknown source, no scans, a batch that does not divide.
    """
    if source not in SOURCES:
        raise InputRefusedError(
            f"config.data.source: wanted one of {', '.join(SOURCES)}, got {source!r}"
        )
    held = load_resident(dataset, indices) if source == "resident" else dataset
    loader = batches(
        held,
        indices,
        batch=batch,
        seed=seed,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return Input(loader, dataset, mesh, labels)


def read_volumes(
    dataset: RecordDataset, indices: Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n x y z"] | Float32[np.ndarray, "n x y z"]:
    """Reads scans in the order of `indices`.

    Raises:
      InputRefusedError: one of them is damaged; it is named.
    """
    return np.stack([dataset.read(int(index)) for index in indices])
