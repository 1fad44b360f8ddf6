"""Low-rank adapters (LoRA, Hu et al. 2022): an encoder learns, and keeps its weights.

Every big kernel W of the encoder becomes W + scale x A B, where A [in, rank] starts at
random and B [rank, out] at 0: at first the network is the pretrained one. Only A and B
learn. They are a module of their own, so that a checkpoint has both and W is untouched.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least


class LowRank(nnx.Module):
    """An update of one kernel, the product of two thin matrices.

    Args:
        shape: of the kernel: [in, out]; [depth, in, out] of stacked blocks, which have
            a pair each; [x, y, z, in, out] of a convolution.
        rank: of the update.
        scale: factor of the update.
    """

    def __init__(
        self, shape: tuple[int, ...], *, rank: int, scale: float, rngs: nnx.Rngs
    ):
        *depth, rows, columns = matrix_shape(shape)
        self.shape, self.scale = shape, scale
        start = jax.random.normal(rngs.params(), (*depth, rows, rank)) * rows**-0.5
        self.a = nnx.Param(start)
        self.b = nnx.Param(jnp.zeros((*depth, rank, columns)))

    def __call__(self) -> Float[Array, "*shape"]:
        """Gives what is added to the kernel."""
        return self.scale * (self.a[...] @ self.b[...]).reshape(self.shape)


class Adapters(nnx.Module):
    """The updates of an encoder's big kernels, by the place of each.

    A kernel is big where its update has less than half as many parameters as it has
    itself.

    Args:
        encoder: that is adapted; only its shapes are looked at.
        rank: of every update.
        scale: factor of every update.

    Raises:
        InputRefusedError: a rank below 1, or so large that no kernel is big.
    """

    def __init__(
        self, encoder: nnx.Module, *, rank: int = 4, scale: float = 1.0, rngs: nnx.Rngs
    ):
        at_least(1, rank, "adapters.rank")
        self.names: tuple[str, ...] = ()
        for name, shape in _kernels(encoder):
            rows, columns = matrix_shape(shape)[-2:]
            if 2 * rank * (rows + columns) < rows * columns:
                update = LowRank(shape, rank=rank, scale=scale, rngs=rngs)
                setattr(self, name, update)
                self.names += (name,)
        if not self.names:
            raise InputRefusedError(
                f"adapters.rank: wanted one that is small beside the encoder's "
                f"kernels, got {rank}"
            )

    def adapt(self, encoder: nnx.Module) -> nnx.Module:
        """Gives the encoder with the updates added; its own weights get no gradient."""
        graphdef, params, rest = nnx.split(encoder, nnx.Param, ...)

        def add(path: tuple, kernel: Any) -> Any:
            kernel = jax.lax.stop_gradient(kernel)
            name = _name(tuple(part.key for part in path))
            return kernel + getattr(self, name)() if name in self.names else kernel

        pure = nnx.to_pure_dict(params)
        adapted = jax.tree_util.tree_map_with_path(add, pure)
        return nnx.merge(graphdef, nnx.State(adapted), rest, copy=True)


def merge_adapters(
    encoder: dict[str, Any], adapters: dict[str, Any], *, scale: float = 1.0
) -> dict[str, Any]:
    """Gives an encoder's parameters with the updates added, for a network without.

    Args:
        encoder: nested dict of parameters.
        adapters: those of its `Adapters`.
        scale: as the adapters were made with.
    """

    def add(path: tuple, kernel: Any) -> Any:
        update = adapters.get(_name(tuple(part.key for part in path)))
        if update is None:
            return kernel
        return kernel + scale * (update["a"] @ update["b"]).reshape(kernel.shape)

    return jax.tree_util.tree_map_with_path(add, encoder)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Gives a kernel's shape as a matrix, or as a stack of them."""
    if len(shape) == 3:  # stacked blocks: the only kernels of three axes
        return shape
    rows = 1
    for side in shape[:-1]:
        rows *= side
    return rows, shape[-1]


def _kernels(encoder: nnx.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path, kernel in nnx.to_flat_state(nnx.state(encoder, nnx.Param)):
        if path[-1] == "kernel":
            yield _name(path), kernel[...].shape


def _name(path: tuple) -> str:
    """Gives the attribute that a kernel's update has: "blocks_qkv" of blocks/qkv."""
    return "_".join(map(str, path[:-1])) if path[-1] == "kernel" else ""
