"""From stored volumes to features or outputs, in the evaluation view."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Bool, Float, Float32, UInt8

from brainjax.augment import evaluation_view
from brainjax.models.pure import run
from brainjax.volume.canonical import Codes

Volumes = UInt8[Array, "b x y z"] | Float32[Array, "b x y z"]
Encode = Callable[
    [
        Any,
        Any,
        Volumes | UInt8[np.ndarray, "b x y z"] | Float32[np.ndarray, "b x y z"],
    ],
    Array,
]


def make_encode(
    graphdef: Any, *, view: tuple[int, int, int], method: str = "encode"
) -> Encode:
    """Compiles codes -> evaluation view -> one method of a network.

    Args:
      graphdef: the network's structure.
      view: the encoder's input size, in voxels; the whole field of view fills it.
      method: "encode" for pooled features, "__call__" for the network's outputs.

    Returns:
      `encode(params, batch_stats, codes [b, x, y, z])` -> float32 [b, d]; the codes as
      their recipe stores them, uint8 or float32.
    """

    @jax.jit
    def encode(params, batch_stats, codes: Volumes):
        # One scan at a time: an accelerator gains nothing here, a CPU saves memory.
        views = jax.lax.map(partial(evaluation_view, shape=view), codes)
        outputs, _ = run(
            graphdef, params, batch_stats, views[..., None], train=False, method=method
        )
        return outputs

    return encode


def encode_scans(
    encode: Encode,
    params: Any,
    batch_stats: Any,
    volumes: Iterable[Codes],
    *,
    batch: int = 8,
) -> Float[np.ndarray, "n d"]:
    """Runs a compiled `encode` over any number of volumes, in order; 0 gives [0, 0].

    Of several processes every one gives the same volumes, and gets all the results.
    """
    results, waiting = [], []

    def flush():
        # The last batch is filled up, so that one program serves all.
        filled = waiting + [waiting[-1]] * (batch - len(waiting))
        outputs = encode(params, batch_stats, np.stack(filled))
        # The parameters may lie on several processes, and so the outputs.
        whole = multihost_utils.process_allgather(outputs, tiled=True)
        results.append(np.asarray(whole)[: len(waiting)])
        waiting.clear()

    for volume in volumes:
        waiting.append(volume)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    return np.concatenate(results) if results else np.zeros((0, 0), np.float32)


def join_sequences(
    features: Float[np.ndarray, "n s d"], present: Bool[np.ndarray, "n s"]
) -> Float[np.ndarray, "n d"]:
    """Gives the mean of a case's features over the sequences that it has.

    What the score of unfamiliar scans (`guards`) is made of, whatever the fusion is.
    """
    shares = present / np.maximum(present.sum(1, keepdims=True), 1)
    # A missing sequence may have features of any kind, and they never count.
    kept = np.where(present[..., None], features, 0)
    return np.einsum("ns,nsd->nd", shares, kept).astype(np.float32)
