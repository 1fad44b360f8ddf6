"""3D convolution with PyTorch's padding rule, for encoders that others trained.

Padding is symmetric (`kernel // 2` on both sides, whatever the stride), as MONAI's
networks have it; flax's "SAME" pads a strided convolution unevenly and gives others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models.encoded import triple
from brainjax.models.planes import (
    convolve_planes,
    convolve_whole,
    fits_planes,
    symmetric,
)

HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Convolution(nnx.Module):
    """A 3D convolution; its kernel is `[x, y, z, before, after]`.

    Args:
        before: channels of the input.
        after: channels of the output.
        kernel: voxels of the kernel, one number or three.
        stride: voxels from one output to the next.
        dilation: voxels from one tap of the kernel to the next.
        bias: whether a bias is added.
        dtype: compute type; parameters are float32.
        kernel_init: how the kernel starts; by default a plain normal, as in MONAI (a
            truncated one, flax's usual, compiles anew for every shape).
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        kernel: int | tuple[int, int, int] = 3,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = False,
        dtype=jnp.float32,
        kernel_init=HE_NORMAL,
        rngs: nnx.Rngs,
    ):
        sides = triple(kernel, "kernel")
        self.stride = stride
        self.dilation = dilation
        self.dtype = dtype
        shape = (*sides, before, after)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape))
        if bias:
            self.bias = nnx.Param(jnp.zeros(after))
        self.has_bias = bias

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the convolved cells, in the compute type."""
        kernel = self.kernel[...].astype(self.dtype)
        found = convolve(
            cells.astype(self.dtype),
            kernel,
            stride=self.stride,
            dilation=self.dilation,
        )
        if self.has_bias:
            found = found + self.bias[...].astype(self.dtype)
        return found


_portable: ContextVar[bool] = ContextVar("portable", default=False)


@contextmanager
def portable_convolutions() -> Iterator[None]:
    """What is traced in here convolves in XLA's own form, for every platform."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def convolve(
    cells: Float[Array, "b x y z c"],
    kernel: Float[Array, "p q r c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "b i j k d"]:
    """Convolves (as networks do, without turning the kernel), padded symmetrically.

    XLA's 3D convolution is slow on a CPU and its gradient is slower by far, so there,
    as seen when traced, 2D convolutions and matrix products do the work: the same sums
    in another order, in float32 or wider. An accelerator keeps XLA's. A CPU has no
    forward-mode derivative then (`jax.jvp`), only `jax.grad` and `jax.vjp`.
    """
    if jax.default_backend() != "cpu" or _portable.get():
        return convolve_plainly(cells, kernel, stride=stride, dilation=dilation)
    kind = cells.dtype
    wide = jnp.promote_types(kind, jnp.float32)
    cells, kernel = jnp.astype(cells, wide), jnp.astype(kernel, wide)
    if kernel.shape[:3] == (1, 1, 1):
        kept = cells[:, ::stride, ::stride, ::stride]
        # As one matrix: a product over five axes has a slope that XLA transposes.
        found = kept.reshape(-1, kept.shape[-1]) @ kernel[0, 0, 0]
        found = found.reshape(*kept.shape[:-1], -1)
    elif fits_planes(kernel.shape, stride, dilation):
        found = convolve_planes(cells, kernel, stride=stride, dilation=dilation)
    else:
        found = convolve_plainly(cells, kernel, stride=stride, dilation=dilation)
    return jnp.astype(found, kind)


def convolve_plainly(
    cells: Float[Array, "b x y z c"],
    kernel: Float[Array, "p q r c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "b i j k d"]:
    """Gives what `convolve` gives, by XLA's own 3D convolution."""
    pads = symmetric(kernel.shape, dilation)
    return convolve_whole(cells, kernel, stride, dilation, pads)
