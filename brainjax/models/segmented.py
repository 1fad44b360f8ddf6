"""What every segmenter gives, and the ways from coarse cells back to voxels.

No transposed convolution: its gradient is XLA's slowest, and it leaves checkerboards.
Channels are unfolded into voxels, or cells are repeated and convolved afterwards.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Segmented(NamedTuple):
    """A segmented batch of volumes.

    Attributes:
        logits: float32, of every voxel of the volume.
        deep: float32 logits on coarser grids, the finest first; each side is half that
            of the one before, rounded up. Empty without deep supervision.
    """

    logits: Float[Array, "b x y z k"]
    deep: tuple[Float[Array, "b i j l k"], ...] = ()


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


def crop(cells: Float[Array, "b i j k c"], sides) -> Float[Array, "b x y z c"]:
    """Keeps the first `sides` (x, y, z) cells: what padding added is cut off."""
    x, y, z = sides
    return cells[:, :x, :y, :z]
