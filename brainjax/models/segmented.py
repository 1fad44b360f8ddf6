"""What every segmenter gives, and what all of them share on the way to it.

No transposed convolution: its gradient is XLA's slowest, and it leaves checkerboards.
Channels are unfolded into voxels, or cells are doubled and convolved afterwards.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.cnn import ResidualBlock, fold, make_norm
from brainjax.models.encoded import at_least, choice, triple
from brainjax.models.products import Linear


class Segmented(NamedTuple):
    """A segmented batch of volumes.

    Attributes:
        logits: float32, of every voxel of the volume.
        deep: float32 logits on coarser grids, the finest first; each side is half that
            of the one before, rounded up. Empty without deep supervision.
    """

    logits: Float[Array, "b x y z k"]
    deep: tuple[Float[Array, "b i j l k"], ...] = ()


class _Decoder(Protocol):
    norm: Any
    beside: Linear | None
    out: Linear
    deep_outs: nnx.List


def answer(
    decoder: _Decoder,
    levels: Sequence[Array],
    volumes: Float[Array, "b x y z c"],
) -> Segmented:
    """Reads logits from decoded cells `[b, i, j, k, d]`.

    decoder: of what `make_heads` gives, `norm`, `beside` and `out` read the first
    level, `deep_outs` those after it. levels: the finest first; the first has half the
    volumes' sides, rounded up, and each gives 2x2x2 logits a cell.
    """
    first, *coarser = levels
    cells = nnx.relu(decoder.norm(first))
    if decoder.beside is not None:
        # A cell's channels are too few to carry eight voxels through the whole network.
        image = fold(volumes).astype(cells.dtype)
        cells = nnx.relu(decoder.beside(jnp.concatenate([cells, image], axis=-1)))
    logits = _spread(decoder.out(cells), volumes.shape[1:4])
    sides = [level.shape[1:4] for level in levels]
    heads = zip(decoder.deep_outs, coarser, sides, strict=False)
    return Segmented(logits, tuple(_spread(out(c), s) for out, c, s in heads))


def _spread(folded: Array, sides: Sequence[int]) -> Array:
    return crop(unfold(folded.astype(jnp.float32)), sides)


def unfold(cells: Float[Array, "b i j k d"]) -> Float[Array, "b x y z c"]:
    """Spreads channels over 2x2x2 cells (c = d / 8): the inverse of `cnn.fold`."""
    b, i, j, k, d = cells.shape
    octets = cells.reshape(b, i, j, k, 2, 2, 2, d // 8)
    pairs = octets.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return pairs.reshape(b, 2 * i, 2 * j, 2 * k, d // 8)


def repeat(cells: Float[Array, "b i j k c"]) -> Float[Array, "b x y z c"]:
    """Puts every cell in the place of 2x2x2 cells (nearest-neighbour upsampling)."""
    b, i, j, k, c = cells.shape
    apart = cells[:, :, None, :, None, :, None]
    spread = jnp.broadcast_to(apart, (b, i, 2, j, 2, k, 2, c))
    return spread.reshape(b, 2 * i, 2 * j, 2 * k, c)


def interpolate(cells: Float[Array, "b i j k c"]) -> Float[Array, "b x y z c"]:
    """Doubles every side, trilinearly: half-voxel centres, held at the borders."""
    for axis in (1, 2, 3):
        side = cells.shape[axis]
        clip = partial(lax.slice_in_dim, axis=axis)
        first, last = clip(cells, 0, 1), clip(cells, side - 1, side)
        before = jnp.concatenate([first, clip(cells, 0, side - 1)], axis)
        after = jnp.concatenate([clip(cells, 1, side), last], axis)
        halves = [0.75 * cells + 0.25 * beside for beside in (before, after)]
        shape = (*cells.shape[:axis], 2 * side, *cells.shape[axis + 1 :])
        cells = jnp.stack(halves, axis + 1).reshape(shape)
    return cells


def crop(
    cells: Float[Array, "b i j k c"], sides: Sequence[int]
) -> Float[Array, "b x y z c"]:
    """Keeps the first `sides` (x, y, z) cells: what padding added is cut off."""
    x, y, z = sides
    return cells[:, :x, :y, :z]


def encoder_keywords(
    encoder: Mapping[str, Any] | None,
    name: str,
    *,
    shape: int | tuple[int, int, int],
    channels: int,
) -> dict[str, Any]:
    """Gives the keywords of a segmenter's own encoder, for its shape and channels.

    encoder: keywords as a config or a pretrained run has them. name: the row of
    `ENCODERS` that they must be for.

    Raises:
        InputRefusedError: they are for another encoder, shape or number of channels.
    """
    found = dict(encoder or {})
    choice(found.pop("name", name), (name,), "encoder of the segmenter")
    wanted = {
        "shape": triple(shape, "shape"),
        "channels": at_least(1, channels, "channels"),
    }
    given = {"shape": triple(found.get("shape", wanted["shape"]), "shape")}
    given["channels"] = found.get("channels", channels)
    for key, value in wanted.items():
        if given[key] != value:
            raise InputRefusedError(
                f"encoder of the segmenter: wanted {key} {value}, got {given[key]}"
            )
    return {**found, **wanted}


def make_heads(
    widths: Sequence[int],
    outputs: int,
    deep: int,
    head: int,
    *,
    channels: int,
    dtype,
    rngs,
):
    """Gives `norm`, `beside`, `out` and `deep_outs`, which `answer` reads levels with.

    widths: channels of the levels, the finest first. deep: levels after the first that
    give logits too. head: units of `beside`, which reads the finest level's cells and
    the folded image of so many channels together; 0 for no such layer.
    """
    beside, before = None, widths[0]
    if at_least(0, head, "head"):
        beside = Linear(widths[0] + 8 * channels, head, dtype=dtype, rngs=rngs)
        before = head
    if at_least(0, deep, "deep") >= len(widths):
        raise InputRefusedError(
            f"deep: wanted at most {len(widths) - 1} coarser levels, got {deep}"
        )
    count = 8 * at_least(1, outputs, "outputs")
    norm = make_norm("group", widths[0], dtype, rngs)
    first, *others = (
        Linear(width, count, dtype=dtype, rngs=rngs)
        for width in (before, *widths[1 : deep + 1])
    )
    return norm, beside, first, nnx.List(others)


def make_blocks(width: int, count: int, *, dtype, rngs: nnx.Rngs) -> nnx.List:
    """Gives so many residual blocks of one width."""
    at_least(1, count, "blocks")
    return nnx.List(
        [ResidualBlock(width, dtype=dtype, rngs=rngs) for _ in range(count)]
    )
