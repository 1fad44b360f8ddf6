"""Gradient caching: the contrastive gradient of a batch larger than memory.

After Gao et al. 2021 (Scaling deep contrastive learning batch size under memory limited
setup). A first pass embeds micro-batch after micro-batch and keeps only the pooled
features. The loss on all of them gives each feature's cotangent. A second pass embeds
every micro-batch again, now with its gradient, and adds the gradients up. Views are
drawn again by their keys, never held.

The gradient is that of the whole batch, to rounding, where the encoder treats every
view by itself (LayerNorm, GroupNorm). An encoder with BatchNorm normalises within a
micro-batch, in both passes; its running statistics move once, in the first.

Micro-batch j of k holds the slots j, j + k, j + 2k... of the global batch: the same on
any number of devices, and every device finds its part of it among its own slots.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.parallel import AXES

ENCODER = "encoder"
"""The part of the parameters and statistics that the two passes are about."""

HELD = "dataset"
"""The one leaf of a batch that is not of its slots."""

Embed = Callable[..., tuple[Float[Array, "m v w"], Any]]
"""(params, batch_stats, micro-batch, mesh=) -> features of its views, statistics.

Without a mesh it works on one device's share of the micro-batch.
"""


class Passes(NamedTuple):
    """The two passes over the micro-batches of a batch.

    Attributes:
        first: (params, batch_stats, batch) -> features [b, v, w] and statistics.
        second: (params, batch_stats, batch, cotangents [b, v, w]) -> the gradient of
            the encoder's parameters.
    """

    first: Callable
    second: Callable


def count_micro_batches(batch: int, micro_batch: int, devices: int) -> int:
    """Gives how many micro-batches a batch is cut into; 1 where it is not cut.

    Raises:
      InputRefusedError: they do not divide the batch, or the devices not them.
    """
    if micro_batch == 0:
        return 1
    if micro_batch < 1 or batch % micro_batch or micro_batch % devices:
        raise InputRefusedError(
            f"config.train.micro_batch: wanted a divisor of the batch of {batch} that "
            f"{devices} devices divide, got {micro_batch}"
        )
    return batch // micro_batch


def make_passes(embed: Embed, *, count: int, mesh: Mesh, specs: Any) -> Passes:
    """Gives both passes over `count` micro-batches, to be called under `jax.jit`.

    On several devices an encoder without running statistics goes through them device
    by device: its gradients are added up where they arise and summed over the mesh
    once, not once a micro-batch. BatchNorm's statistics are the whole micro-batch's,
    so that such an encoder leaves the splitting to the compiler.

    Args:
        embed: of one micro-batch.
        count: of micro-batches.
        mesh: of the batch.
        specs: tree of the PartitionSpecs of the encoder's parameters.
    """
    whole = _whole_passes(partial(embed, mesh=mesh), count)
    if mesh.size == 1:
        return whole
    local = _whole_passes(partial(embed, mesh=None), count)
    split = _split_passes(local, mesh, specs)

    def chosen(batch_stats) -> Passes:
        return whole if batch_stats.get(ENCODER) else split

    return Passes(
        lambda params, stats, batch: chosen(stats).first(params, stats, batch),
        lambda params, stats, *rest: chosen(stats).second(params, stats, *rest),
    )


def pull(embed: Callable, params: Any, batch_stats: Any, micro: dict, cotangent: Array):
    """Gives the gradient of the encoder's parameters on one micro-batch.

    embed: (params, batch_stats, micro) -> features and statistics; cotangent: of the
    features.
    """

    def features(encoder):
        return embed({**params, ENCODER: encoder}, batch_stats, micro)[0]

    _, back = jax.vjp(features, params[ENCODER])
    return back(cotangent)[0]


def pick(batch: dict, number: Any, count: int) -> dict:
    """Gives the slots `number`, `number + count`... of a batch."""

    def of(leaf: Array) -> Array:
        strided = leaf.reshape(-1, count, *leaf.shape[1:])
        return jax.lax.dynamic_index_in_dim(strided, number, axis=1, keepdims=False)

    slots = {name: of(leaf) for name, leaf in batch.items() if name != HELD}
    return {**slots, HELD: batch[HELD]} if HELD in batch else slots


def weave(parts: Float[Array, "k m v w"]) -> Float[Array, "b v w"]:
    """Gives what came by micro-batches in the order of the batch."""
    return parts.swapaxes(0, 1).reshape(-1, *parts.shape[2:])


def unweave(rows: Float[Array, "b v w"], count: int) -> Float[Array, "k m v w"]:
    """Gives rows in the order of the batch by micro-batches; undoes `weave`."""
    return rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)


def _whole_passes(embed: Callable, count: int) -> Passes:
    def first(params, batch_stats, batch):
        def one(stats, number):
            features, stats = embed(params, stats, pick(batch, number, count))
            return stats, features

        stats, parts = jax.lax.scan(one, batch_stats, jnp.arange(count))
        return weave(parts), stats

    def second(params, batch_stats, batch, cotangents):
        def one(total, numbered):
            number, cotangent = numbered
            micro = pick(batch, number, count)
            slope = pull(embed, params, batch_stats, micro, cotangent)
            return jax.tree.map(jnp.add, total, slope), None

        nothing = jax.tree.map(jnp.zeros_like, params[ENCODER])
        numbered = jnp.arange(count), unweave(cotangents, count)
        return jax.lax.scan(one, nothing, numbered)[0]

    return Passes(first, second)


def _split_passes(local: Passes, mesh: Mesh, specs: Any) -> Passes:
    """Runs passes on each device's slots alone; gradients are summed at the end."""
    everywhere, batched = PartitionSpec(), PartitionSpec(AXES)

    def second(params, batch_stats, batch, cotangents):
        slope = local.second(params, batch_stats, batch, cotangents)
        return jax.tree.map(_sum_up, slope, specs)

    # No replication check: the sums over the mesh are written out, and a slope is taken
    # of one device's features by its own copy of the parameters.
    split = partial(jax.shard_map, mesh=mesh, check_vma=False)
    given = (everywhere, everywhere, batched)
    return Passes(
        split(local.first, in_specs=given, out_specs=(batched, everywhere)),
        split(second, in_specs=(*given, batched), out_specs=specs),
    )


def _sum_up(slope: Array, spec: PartitionSpec) -> Array:
    """Sums over all devices; each keeps the part of the parameter that is its own."""
    data, fsdp = AXES
    if fsdp not in spec:
        return jax.lax.psum(slope, AXES)
    axis = tuple(spec).index(fsdp)
    # Scattered first: what is then summed over "data" is a part.
    part = jax.lax.psum_scatter(slope, fsdp, scatter_dimension=axis, tiled=True)
    return jax.lax.psum(part, data)
