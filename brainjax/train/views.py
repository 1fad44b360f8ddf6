"""From a batch of stored volumes to the views that a network sees, compiled.

A scan's views lie side by side, `[scans x crops x 2, ...]`, the two views of a crop
next to each other, so that a device's views come from its own scans.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, UInt8

from brainjax.augment import Augmentation, random_views, view_keys
from brainjax.augment.labels import LabelledAugmentation, Parts, random_labelled_views
from brainjax.augment.resize import Codes
from brainjax.data.take import take_local_rows, take_rows
from brainjax.parallel import AXES

BOX = 2
"""The view number whose key draws the boxes that several crops of a scan share."""

DROPS = 3
"""The view number whose key draws which sequences of a case are left out."""


def stored_volumes(batch: dict, mesh: Mesh, *, local: bool = False) -> Codes:
    """Gives the stored volumes [b, x, y, z] of a batch, wherever they are held.

    local: whether the caller already works on one device's share of the batch.
    """
    if "volumes" in batch:
        return batch["volumes"]
    take = take_local_rows if local else take_rows
    return take(batch["dataset"], batch["rows"], mesh)


def single_views(
    volumes: Codes,
    positions: Int[Array, " b"],
    augmentation: Augmentation,
    mesh: Mesh,
    *,
    seed: int | Int[Array, ""],
) -> Float[Array, "b *s x y z 1"]:
    """Gives one augmented view of every scan; each device works on its own scans.

    Of cases, [b, s, x, y, z], it is one of every sequence, each with draws of its own:
    [b, s, x, y, z, 1]. A missing sequence, all code 0, gives a view of zeros.
    """

    def local(volumes, positions):
        keys = view_keys(seed, positions, 0)
        if volumes.ndim == 4:
            return random_views(augmentation, volumes, keys)
        sequences = volumes.shape[1]
        keys = _fold_each(keys, sequences).reshape(-1)
        flat = volumes.reshape(-1, *volumes.shape[2:])
        views = random_views(augmentation, flat, keys)
        return views.reshape(-1, sequences, *views.shape[1:])

    return _on_each_device(local, mesh)(volumes, positions)


def labelled_views(
    volumes: UInt8[Array, "b t a b c"],
    positions: Int[Array, " b"],
    augmentation: LabelledAugmentation,
    parts: Parts,
    mesh: Mesh,
    *,
    seed: int | Int[Array, ""],
) -> tuple[Float[Array, "b x y z s"], UInt8[Array, "b x y z"]]:
    """Gives one augmented view of every case, and its labels; see `augment/labels.py`.

    volumes: the codes of the sequences and, last, the parts of the label map. Each
    device works on its own cases.
    """

    def local(volumes, positions):
        keys = view_keys(seed, positions, 0)
        return random_labelled_views(augmentation, volumes, keys, parts)

    return _on_each_device(local, mesh)(volumes, positions)


def drop_sequences(
    views: Float[Array, "b s x y z 1"],
    positions: Int[Array, " b"],
    *,
    rate: float,
    seed: int | Int[Array, ""],
) -> Float[Array, "b s x y z 1"]:
    """Zeroes a sequence with probability `rate`; every case keeps at least one.

    The one that is kept in any case is drawn among those that are there.
    """
    present = (views != 0).any(axis=(2, 3, 4, 5))
    keys = view_keys(seed, positions, DROPS)
    draws = jax.vmap(lambda key: jax.random.uniform(key, present.shape[1:]))(keys)
    drawn = jnp.where(present, draws, -1.0)
    last = drawn == drawn.max(axis=1, keepdims=True)
    keep = (draws >= rate) | last
    return jnp.where(keep[:, :, None, None, None, None], views, 0.0)


def drop_channels(
    views: Float[Array, "b x y z s"],
    positions: Int[Array, " b"],
    *,
    rate: float,
    seed: int | Int[Array, ""],
) -> Float[Array, "b x y z s"]:
    """Does what `drop_sequences` does, of sequences that are channels."""
    apart = jnp.moveaxis(views, -1, 1)[..., None]
    kept = drop_sequences(apart, positions, rate=rate, seed=seed)
    return jnp.moveaxis(kept[..., 0], 1, -1)


def paired_views(
    volumes: Codes,
    positions: Int[Array, " b"],
    augmentation: Augmentation,
    mesh: Mesh | None,
    *,
    seed: int,
    crops: int = 1,
) -> Float[Array, "v x y z 1"]:
    """Gives two views of every crop of every scan, v = b x crops x 2.

    crops: boxes of a scan, each shared by its two views; with 1 every view draws its
    own. mesh: None where the caller already works on one device's share.
    """

    def local(volumes, positions):
        keys, boxes = _paired_keys(positions, seed=seed, crops=crops)
        repeated = jnp.repeat(volumes, 2 * crops, axis=0)
        return random_views(augmentation, repeated, keys, box_keys=boxes)

    if mesh is None:
        return jax.named_scope("augment")(local)(volumes, positions)
    return _on_each_device(local, mesh)(volumes, positions)


def _paired_keys(
    positions: Int[Array, " b"], *, seed: int, crops: int
) -> tuple[Key[Array, " v"], Key[Array, " v"] | None]:
    """Gives the keys of all views, and of their boxes where those are shared."""
    views = jnp.stack([view_keys(seed, positions, view) for view in (0, 1)], axis=1)
    if crops == 1:
        return views.reshape(-1), None
    boxes = _fold_each(view_keys(seed, positions, BOX), crops)
    # [b, view, crop] to [b, crop, view]
    own = _fold_each(views.reshape(-1), crops).reshape(-1, 2, crops)
    return own.swapaxes(1, 2).reshape(-1), jnp.repeat(boxes.reshape(-1), 2)


def _fold_each(keys: Key[Array, " n"], count: int) -> Key[Array, "n c"]:
    """Gives so many keys of every key."""
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return jax.vmap(fold, in_axes=(0, None))(keys, jnp.arange(count))


def _on_each_device(local, mesh: Mesh):
    batched = PartitionSpec(AXES)
    local = jax.named_scope("augment")(local)
    # No gradient passes here, so nothing is lost by leaving the replication check out.
    return partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(batched, batched),
        out_specs=batched,
        check_vma=False,
    )(local)
