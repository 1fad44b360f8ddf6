"""What frozen features know, while an encoder is being pretrained."""

import json
import logging
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.evaluate.probes import probe_scores
from brainjax.parallel import is_first
from brainjax.records.store import RecordDataset
from brainjax.train.folder import RunFolder
from brainjax.train.hooks import MetricLog
from brainjax.train.scans import Split
from brainjax.train.simclr import Contrasting
from brainjax.train.state import State
from brainjax.volume import Codes

log = logging.getLogger("brainjax")

PICTURED = 6
"""Pairs of views kept for the report."""


class FrozenFeatures:
    """Encodes the training and validation scans with the parameters of the moment.

    Of a large data set, the first `limit` scans of each part (they are in a random
    order already).
    """

    def __init__(
        self,
        dataset: RecordDataset,
        split: Split,
        graphdef,
        view: tuple[int, int, int],
        *,
        limit: int = 500,
    ):
        self.dataset = dataset
        self.train, train = _readable(dataset, split.train[:limit])
        self.val, val = _readable(dataset, split.val[:limit])
        self.volumes = [*train, *val]
        self.encode = make_encode(graphdef, view=view)

    def __call__(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Gives features [n, d] of the training scans, and of the validation scans."""
        features = encode_scans(
            self.encode, state["params"], state["batch_stats"], self.volumes
        )
        return features[: len(self.train)], features[len(self.train) :]

    def write(self, folder: RunFolder, state: State) -> None:
        """Writes embeddings.npz: features, subjects, labels and part of every scan."""
        features = np.concatenate(self(state))  # the work of all processes
        if not is_first():
            return
        rows = [self.dataset.rows[i] for i in (*self.train, *self.val)]
        names = {name for row in rows for name in row["labels"]}
        labels = {n: [row["labels"].get(n) for row in rows] for n in sorted(names)}
        labels["sequence"] = [row["sequence"] for row in rows]
        parts = ["train"] * len(self.train) + ["val"] * len(self.val)
        np.savez_compressed(
            folder.embeddings,
            features=features,
            subjects=np.array([row["subject"] for row in rows]),
            parts=np.array(parts),
            labels_json=np.array(json.dumps(labels)),
        )


def _readable(
    dataset: RecordDataset, indices: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], list[Codes]]:
    """Gives the scans that can be read; a damaged one is named and left out."""
    kept, volumes = [], []
    for index in indices:
        try:
            volumes.append(dataset.read(int(index)))
        except InputRefusedError as error:
            log.warning("the probe leaves out record %d (%s)", index, error)
            continue
        kept.append(index)
    return np.array(kept, dtype=np.int64), volumes


class Probe:
    """Every so often: ridge or logistic regression, and kNN, on frozen features.

    Fitted to training scans, scored on validation scans; the log gets
    `probe/<target>/<method>_<metric>`.

    every: steps from one to the next; 0 for never.
    """

    def __init__(
        self,
        features: FrozenFeatures,
        log: MetricLog,
        *,
        targets: Sequence[str] = (),
        every: int = 100,
    ):
        if every < 0:
            raise InputRefusedError(
                f"config.probe.every: wanted steps, or 0 for never, got {every}"
            )
        self.features, self.log, self.every = features, log, every
        self.labels = {name: _known(features.dataset, name) for name in targets}

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        if not (self.labels and self.every) or step % self.every:
            return
        train, val = self.features(state)
        scores: dict[str, float] = {}
        for name, labels in self.labels.items():
            train_y = [labels[i] for i in self.features.train]
            val_y = [labels[i] for i in self.features.val]
            found = probe_scores(train, train_y, val, val_y)
            scores |= {f"probe/{name}/{key}": value for key, value in found.items()}
        self.log.write(step, scores)


def _known(dataset: RecordDataset, name: str) -> list:
    labels = dataset.labels(name)
    if all(label is None for label in labels):
        raise InputRefusedError(
            f"config.probe.targets: wanted a label of the data set, got {name!r}, "
            "which no scan has; prepare it with --labels, or take it out"
        )
    return labels


def write_views(
    folder: RunFolder,
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    parts: Contrasting,
) -> None:
    """Writes views.npz: pairs of augmented views, as the first step would draw them.

    Of a scan seen in several crops, the first.
    """
    if not is_first():
        return
    chosen, held = _readable(dataset, indices[:PICTURED])
    positions = jnp.arange(len(chosen), dtype=jnp.int32)
    draw = jax.jit(partial(parts.draw, mesh=None, crops=parts.crops))
    views = np.asarray(draw(np.stack(held), positions), np.float16)[..., 0]
    pairs = views.reshape(len(chosen), parts.crops, 2, *views.shape[1:])
    np.savez_compressed(
        folder.views,
        first=pairs[:, 0, 0],
        second=pairs[:, 0, 1],
        subjects=np.array([dataset.rows[i]["subject"] for i in chosen]),
    )
