"""3D residual networks (He et al. 2016), as MONAI and MedicalNet build them.

The arithmetic is theirs, so that such weights can be carried over. What differs among
the networks of the field is a keyword: the stem's stride, the shortcut, dilation.
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models.cnn import encoded
from brainjax.models.convolution import Convolution
from brainjax.models.encoded import (
    Encoded,
    at_least,
    check_volumes,
    choice,
    compute_dtype,
    triple,
)
from brainjax.models.parts import REMATS, batch_norm, overlapping_max, run_stage

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Residual blocks of the four stages, by depth."""

BOTTLENECKS = (50,)
"""Depths whose blocks are 1x1x1, 3x3x3 and 1x1x1, four times as wide at the end."""

STRIDES = {
    False: ((1, 1), (2, 1), (2, 1), (2, 1)),
    True: ((1, 1), (2, 1), (1, 2), (1, 4)),
}
"""Stride and dilation of each stage, by whether the network is dilated."""


def expansion(depth: int) -> int:
    """How much wider a block's output is than its inside."""
    return 4 if depth in BOTTLENECKS else 1


class Shortcut(nnx.Module):
    """What is added to a block's output where the block changes its input's size.

    Args:
        before: channels of the input.
        after: channels of the output.
        kind: "A" subsamples and appends channels of zeros, "B" convolves (1x1x1).
        stride: cells from one output to the next.
        bias: whether B's convolution has a bias, which its norm makes redundant.
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        kind: str,
        stride: int,
        bias: bool,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.missing = after - before
        self.kind = kind
        if kind == "B":
            self.conv = Convolution(
                before,
                after,
                kernel=1,
                stride=stride,
                bias=bias,
                dtype=dtype,
                rngs=rngs,
            )
            self.norm = batch_norm(after, dtype, rngs)

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the cells at the block's output size."""
        if self.kind == "B":
            return self.norm(self.conv(cells))
        step = self.stride
        kept = cells[:, ::step, ::step, ::step]
        return jnp.pad(kept, [(0, 0)] * 4 + [(0, self.missing)])


class ResidualBlock(nnx.Module):
    """Two or three convolutions, each with its norm, added to the input.

    Args:
        before: channels of the input.
        inside: channels of the convolutions; a bottleneck gives four times as many.
        bottleneck: three convolutions (1, 3, 1), the second strided; else two of 3,
            the first strided.
        stride: of the strided convolution.
        dilation: of the 3x3x3 convolutions.
        shortcut: "A" or "B", used where the size changes.
        shortcut_bias: whether the shortcut's convolution has a bias.
        dtype: compute type.
    """

    def __init__(
        self,
        before: int,
        inside: int,
        *,
        bottleneck: bool,
        stride: int,
        dilation: int,
        shortcut: str,
        shortcut_bias: bool,
        dtype,
        rngs: nnx.Rngs,
    ):
        after = 4 * inside if bottleneck else inside
        channels = (
            [before, inside, inside, after] if bottleneck else [before, inside, after]
        )
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        self.convs = nnx.List([])
        self.norms = nnx.List([])
        for (a, b), kernel, step in zip(
            pairwise(channels), kernels, strides, strict=True
        ):
            spread = dilation if kernel == 3 else 1
            conv = Convolution(
                a,
                b,
                kernel=kernel,
                stride=step,
                dilation=spread,
                dtype=dtype,
                rngs=rngs,
            )
            self.convs.append(conv)
            self.norms.append(batch_norm(b, dtype, rngs))
        changes = stride != 1 or before != after
        self.shortcut = (
            Shortcut(
                before,
                after,
                kind=shortcut,
                stride=stride,
                bias=shortcut_bias,
                dtype=dtype,
                rngs=rngs,
            )
            if changes
            else None
        )

    def __call__(self, cells: Float[Array, "b x y z c"]) -> Float[Array, "b i j k d"]:
        """Gives the block's output, after the ReLU that follows the sum."""
        hidden = cells
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            hidden = norm(conv(nnx.relu(hidden) if number else hidden))
        added = cells if self.shortcut is None else self.shortcut(cells)
        return nnx.relu(hidden + added)


class ResNet(nnx.Module):
    """A 3D ResNet-10, 18, 34 or 50 without its classification layer.

    Args:
        shape: voxels of a volume along x, y, z.
        channels: channels of a volume, such as sequences.
        depth: 10, 18, 34 (basic blocks) or 50 (bottlenecks).
        init_filters: channels of the stem; `.width` is 8 times this, or 32 for 50.
        stem_stride: of the 7x7x7 stem; MONAI's default is 1, MedicalNet has 2.
        max_pool: whether a 3x3x3 maximum of stride two follows the stem.
        shortcut: "A" (subsample, append zeros) or "B" (1x1x1 convolution and norm).
        shortcut_bias: whether B's convolution has a bias, as MONAI's has.
        dilated: stages 3 and 4 dilate by 2 and 4 instead of halving (MedicalNet).
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
        remat: "none", or "block" to compute blocks again in the backward pass.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        channels: int = 1,
        depth: int = 18,
        init_filters: int = 64,
        stem_stride: int = 1,
        max_pool: bool = True,
        shortcut: str = "B",
        shortcut_bias: bool = True,
        dilated: bool = False,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        compute = compute_dtype(dtype)
        blocks = BLOCKS[choice(depth, BLOCKS, "depth")]
        choice(stem_stride, (1, 2), "stem_stride")
        self.shape = triple(shape, "shape")
        self.channels = at_least(1, channels, "channels")
        at_least(1, init_filters, "init_filters")
        self.max_pool = max_pool
        self.remat = choice(remat, REMATS, "remat")
        self.stem = Convolution(
            channels,
            init_filters,
            kernel=7,
            stride=stem_stride,
            dtype=compute,
            rngs=rngs,
        )
        self.norm = batch_norm(init_filters, compute, rngs)
        before, stages = init_filters, []
        for number, (stride, dilation) in enumerate(STRIDES[bool(dilated)]):
            stage = []
            for step in (stride, *[1] * (blocks[number] - 1)):
                block = ResidualBlock(
                    before,
                    init_filters * 2**number,
                    bottleneck=depth in BOTTLENECKS,
                    stride=step,
                    dilation=dilation,
                    shortcut=choice(shortcut, ("A", "B"), "shortcut"),
                    shortcut_bias=shortcut_bias,
                    dtype=compute,
                    rngs=rngs,
                )
                before = init_filters * 2**number * expansion(depth)
                stage.append(block)
            stages.append(nnx.List(stage))
        self.stages = nnx.List(stages)
        self.width = before

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Encoded:
        """Encodes volumes; a token is a cell of the last stage, `pooled` their mean."""
        return encoded(self.feature_maps(volumes)[-1])

    def feature_maps(self, volumes: Float[Array, "b x y z c"]) -> list[Array]:
        """Gives the stem's and the four stages' cells, `[b, i, j, k, channels]`."""
        return [stage[-1] for stage in self.block_maps(volumes)]

    def block_maps(self, volumes: Float[Array, "b x y z c"]) -> list[list[Array]]:
        """Gives every block's cells, by stage; the stem (before pooling) is first."""
        check_volumes(volumes, self.shape, self.channels)
        cells = nnx.relu(self.norm(self.stem(volumes)))
        maps = [[cells]]
        if self.max_pool:
            cells = overlapping_max(cells)
        for stage in self.stages:
            maps.append(run_stage(stage, cells, self.remat))
            cells = maps[-1][-1]
        return maps
