"""3D convolution with PyTorch's padding rule, for encoders that others trained.

Padding is symmetric (`kernel // 2` on both sides, whatever the stride), as MONAI's
networks have it; flax's "SAME" pads a strided convolution unevenly and gives others.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models.encoded import triple


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
        rngs: nnx.Rngs,
    ):
        sides = triple(kernel, "kernel")
        self.stride = stride
        self.dilation = dilation
        self.dtype = dtype
        start = nnx.initializers.he_normal()
        self.kernel = nnx.Param(start(rngs.params(), (*sides, before, after)))
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


def convolve(
    cells: Float[Array, "b x y z c"],
    kernel: Float[Array, "p q r c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "b i j k d"]:
    """Convolves (as networks do, without turning the kernel), padded symmetrically."""
    return jax.lax.conv_general_dilated(
        cells,
        kernel,
        window_strides=(stride,) * 3,
        padding=[(dilation * (side // 2),) * 2 for side in kernel.shape[:3]],
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )
