"""From stored volumes to features or outputs, in the evaluation view."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Bool, Float, Float32, UInt8

from brainjax.augment import evaluation_view
from brainjax.models.pure import run
from brainjax.volume.canonical import Codes

Volumes = UInt8[Array, "b *s x y z"] | Float32[Array, "b *s x y z"]
Stored = UInt8[np.ndarray, "b *s x y z"] | Float32[np.ndarray, "b *s x y z"]
Encode = Callable[[Any, Any, Volumes | Stored], Array]


class Answers(NamedTuple):
    """What a fine-tuned network gives for scans or cases.

    Attributes:
      outputs: of the head, [n, k].
      features: pooled ones, [n, d]; of a case the mean over the sequences it has.
    """

    outputs: Any
    features: Any


Answer = Callable[[Any, Any, Volumes | Stored], Answers]


def make_encode(
    graphdef: Any, *, view: tuple[int, int, int], method: str = "encode"
) -> Encode:
    """Compiles codes -> evaluation view -> one method of a network.

    Args:
      graphdef: the network's structure.
      view: the encoder's input size, in voxels; the whole field of view fills it.
      method: "encode" for pooled features, "__call__" for the network's outputs.

    Returns:
      `encode(params, batch_stats, codes)` -> float32 [b, d]; the codes as their recipe
      stores them, uint8 or float32, [b, x, y, z]. Cases of several sequences,
      [b, s, x, y, z], have features [b, s, d].
    """

    @jax.jit
    def encode(params, batch_stats, codes: Volumes):
        views = _views(codes, view)
        outputs, _ = run(
            graphdef, params, batch_stats, views, train=False, method=method
        )
        return outputs

    return encode


def make_answer(graphdef: Any, *, view: tuple[int, int, int]) -> Answer:
    """Compiles codes -> evaluation view -> outputs and features, in one pass.

    Arguments as for `make_encode`. Of cases, a sequence of code 0 only is missing.
    """

    @jax.jit
    def answer(params, batch_stats, codes: Volumes) -> Answers:
        views = _views(codes, view)
        call = partial(run, graphdef, params, batch_stats, train=False)
        features, _ = call(views, method="encode")
        if views.ndim == 5:
            outputs, _ = call(features, method="answer")
            return Answers(outputs, features)
        present = (views != 0).any(axis=(2, 3, 4, 5))
        outputs, _ = call(features, present, method="answer")
        kept = jnp.where(present[..., None], features, 0).sum(axis=1)
        count = jnp.maximum(present.sum(axis=1, keepdims=True), 1)
        return Answers(outputs, kept / count)

    return answer


def _views(codes: Volumes, view: tuple[int, int, int]) -> Array:
    """Evaluation views, with a channel axis."""
    see = partial(evaluation_view, shape=view)
    # One scan at a time: an accelerator gains nothing here, a CPU saves memory.
    flat = jax.lax.map(see, codes.reshape(-1, *codes.shape[-3:]))
    return flat.reshape(*codes.shape[:-3], *view, 1)


def encode_scans(
    encode: Encode,
    params: Any,
    batch_stats: Any,
    volumes: Iterable[Codes],
    *,
    batch: int = 8,
) -> Float[np.ndarray, "n *s d"]:
    """Runs a compiled `encode` over any number of volumes, in order; 0 gives [0, 0].

    Of several processes every one gives the same volumes, and gets all the results.
    """
    parts = _run(partial(encode, params, batch_stats), volumes, batch)
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def answer_scans(
    answer: Answer,
    params: Any,
    batch_stats: Any,
    volumes: Iterable[Codes],
    *,
    batch: int = 8,
) -> Answers:
    """Like `encode_scans`, of what `make_answer` compiled."""
    parts = _run(partial(answer, params, batch_stats), volumes, batch)
    if not parts:
        return Answers(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    outputs, features = zip(*parts, strict=True)
    return Answers(np.concatenate(outputs), np.concatenate(features))


def _run(call: Callable[[Any], Any], volumes: Iterable[Codes], batch: int) -> list[Any]:
    """Results of every batch, on the host."""
    results, waiting = [], []

    def flush():
        # The last batch is filled up, so that one program serves all.
        filled = waiting + [waiting[-1]] * (batch - len(waiting))
        # The parameters may lie on several processes, and so the outputs.
        whole = multihost_utils.process_allgather(call(np.stack(filled)), tiled=True)
        count = len(waiting)
        results.append(jax.tree.map(lambda x: np.asarray(x)[:count], whole))
        waiting.clear()

    for volume in volumes:
        waiting.append(volume)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    return results


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
