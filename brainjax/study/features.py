"""Features of frozen encoders: every scan is encoded once, and kept on disk."""

import hashlib
import io
import logging
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import Float

from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.records.store import RecordDataset
from brainjax.records.writing import write_atomically
from brainjax.study.grid import digest
from brainjax.study.inits import Init, network_of

log = logging.getLogger("brainjax")


def hash_dataset(dataset: RecordDataset) -> str:
    """Gives 12 hex characters that change with any volume, or their order."""
    codes = [row["codes_sha256"] for row in dataset.rows]
    return hashlib.sha256("".join(codes).encode()).hexdigest()[:12]


def features_path(folder: Path, init: Init, dataset: RecordDataset, seed: int) -> Path:
    """Gives where the features of an encoder and a data set are kept."""
    start = "" if init.pretrained else str(seed)
    known = digest([init.identity, start, hash_dataset(dataset)])
    return folder / "features" / f"{init.name}-{known}.npz"


def frozen_features(
    folder: Path, init: Init, dataset: RecordDataset, *, seed: int
) -> Float[np.ndarray, "n d"]:
    """Gives the pooled features of every scan of a data set, in its order.

    Args:
      folder: of the study, where they are kept under "features".
      init: whose encoder it is.
      dataset: prepared by the recipe that it learnt from.
      seed: of an encoder that has learnt nothing.
    """
    path = features_path(folder, init, dataset, seed)
    kept = _read(path, len(dataset))
    if kept is not None:
        return kept
    start = perf_counter()
    graphdef, params, stats = network_of(init, seed=seed)
    encode = make_encode(graphdef, view=init.view)
    volumes = (dataset.read(i) for i in range(len(dataset)))
    features = encode_scans(encode, params, stats, volumes)
    if not np.isfinite(features).all():
        raise InputRefusedError(
            f"{init.name}: wanted finite features, got NaN or infinity for some scans"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.savez(data, features=features)
    write_atomically(path, data.getvalue())
    took = perf_counter() - start
    log.info("%s: %d scans encoded once, %.0f s", init.name, len(dataset), took)
    return features


def _read(path: Path, count: int) -> Float[np.ndarray, "n d"] | None:
    """Features kept by an earlier call; None where there are none that fit."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            features = kept["features"]
    except (OSError, ValueError, KeyError):
        return None
    return features if len(features) == count else None
