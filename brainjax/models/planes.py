"""3D convolution by planes: the form that is fast on a CPU, and its gradients.

XLA's 3D convolution reaches a tenth of a CPU's arithmetic, its 2D convolution most of
it (benchmarks/RESULTS.md). So the planes across x become a batch of images, one 2D
convolution applies all x-taps of the kernel at once, and what they give is added with
its shift. The slope of the input is such a convolution too, or one for every phase of
a stride; that of the kernel is a matrix product of patches, a few planes at a time.

Padding is a pair (before, after) for each axis throughout; negative ones crop.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Pads = Sequence[tuple[int, int]]

# Up to so many channels, x-taps go side by side into the channels of the input: a
# product over 9 numbers would leave the processor idle.
_FEW = 4
# Rows of patches to gather before multiplying: enough to pay for adding the product.
_ROWS = 512


def fits_planes(kernel: tuple[int, ...], stride: int, dilation: int) -> bool:
    """Says whether `convolve_planes` does this kernel `[p, q, r, c, d]` sparingly.

    Many taps of many channels would hold many times the output; nobody strides and
    dilates at once.
    """
    few = kernel[0] <= 3 or kernel[3] <= _FEW
    return few and (stride == 1 or dilation == 1)


def convolve_planes(
    cells: Float[Array, "b x y z c"],
    kernel: Float[Array, "p q r c d"],
    *,
    stride: int,
    dilation: int,
) -> Float[Array, "b i j k d"]:
    """Convolves, padded by `dilation * (side // 2)`; see `fits_planes`."""
    return _with_slopes(stride, dilation, cells, kernel)


def _value(stride: int, dilation: int, cells: Array, kernel: Array) -> Array:
    pads = symmetric(kernel.shape, dilation)
    if kernel.shape[3] <= _FEW:
        return _stack(cells, kernel, stride, dilation, pads)
    if stride == 1:
        return _fold(cells, kernel, dilation, pads)
    # A strided forward pass is XLA's strong side; its gradients are not.
    return convolve_whole(cells, kernel, stride, dilation, pads)


def _forward(stride: int, dilation: int, cells: Array, kernel: Array):
    return _value(stride, dilation, cells, kernel), (cells, kernel)


def _backward(stride: int, dilation: int, kept: tuple[Array, Array], slope: Array):
    cells, kernel = kept
    return (
        _cells_slope(stride, dilation, cells.shape, kernel, slope),
        _kernel_slope(stride, dilation, cells, kernel.shape, slope),
    )


_with_slopes = jax.custom_vjp(_value, nondiff_argnums=(0, 1))
_with_slopes.defvjp(_forward, _backward)


def symmetric(kernel: Sequence[int], dilation: int) -> Pads:
    """Gives PyTorch's usual padding of a kernel `[p, q, r, ...]`."""
    middles = [dilation * (side // 2) for side in kernel[:3]]
    return [(middle, middle) for middle in middles]


def convolve_whole(
    cells: Float[Array, "b x y z c"],
    kernel: Float[Array, "p q r c d"],
    stride: int,
    dilation: int,
    pads: Pads,
) -> Float[Array, "b i j k d"]:
    """Convolves by XLA's own 3D convolution."""
    return jax.lax.conv_general_dilated(
        cells,
        kernel,
        window_strides=(stride,) * 3,
        padding=pads,
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )


def _images(cells: Array, kernel: Array, stride: int, dilation: int, pads: Pads):
    """Convolves each plane `[y, z, c]` with the kernel `[q, r, c, d]`."""
    found = jax.lax.conv_general_dilated(
        cells.reshape(-1, *cells.shape[2:]),
        kernel,
        window_strides=(stride,) * 2,
        padding=pads,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NYZC", "YZIO", "NYZC"),
    )
    return found.reshape(*cells.shape[:2], *found.shape[1:])


def _fold(cells: Array, kernel: Array, dilation: int, pads: Pads) -> Array:
    """Convolves at stride 1: taps along x give channels, added with their shifts."""
    cropping = [(min(low, 0), min(high, 0)) for low, high in pads]
    cells = _pad(cells, cropping)
    pads = [(max(low, 0), max(high, 0)) for low, high in pads]
    p, q, r, before, after = kernel.shape
    if cells.size <= before**2:
        # Fewer voxels than channels: rearranging the kernel would cost most.
        return convolve_whole(cells, kernel, 1, dilation, pads)
    wide = kernel.transpose(1, 2, 3, 0, 4).reshape(q, r, before, p * after)
    taps = jnp.split(_images(cells, wide, 1, dilation, pads[1:]), p, axis=-1)
    length = cells.shape[1] + sum(pads[0]) - dilation * (p - 1)
    moved = [
        _shift(tap, pads[0][0] - number * dilation, length)
        for number, tap in enumerate(taps)
    ]
    return functools.reduce(jnp.add, moved)


def _stack(cells: Array, kernel: Array, stride: int, dilation: int, pads: Pads):
    """Convolves, taps along x side by side in the channels of the input."""
    p, q, r, before, after = kernel.shape
    length = (cells.shape[1] + sum(pads[0]) - dilation * (p - 1) - 1) // stride + 1
    cells = _neighbours(cells, p, stride, dilation, pads[0], length)
    deep = kernel.transpose(1, 2, 0, 3, 4).reshape(q, r, p * before, after)
    return _images(cells, deep, stride, dilation, pads[1:])


def _neighbours(
    cells: Float[Array, "b x y z c"],
    taps: int,
    stride: int,
    dilation: int,
    pad: tuple[int, int],
    length: int,
) -> Float[Array, "b i y z pc"]:
    """Gives, at each output plane, the input planes that its taps see."""
    cells = _shift(cells, pad[0], cells.shape[1] + sum(pad))
    reach = stride * (length - 1) + 1
    firsts = range(0, taps * dilation, dilation)
    return jnp.concatenate(
        [cells[:, first : first + reach : stride] for first in firsts], axis=-1
    )


def _pad(cells: Array, pads: Pads) -> Array:
    edges = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return jax.lax.pad(cells, jnp.zeros((), cells.dtype), edges)


def _shift(cells: Array, before: int, length: int) -> Array:
    """Moves planes along x by `before`, zeros coming in, and gives `length` of them."""
    after = length - cells.shape[1] - before
    return _pad(cells, [(before, after), (0, 0), (0, 0)])


def _cells_slope(
    stride: int,
    dilation: int,
    shape: tuple[int, ...],
    kernel: Float[Array, "p q r c d"],
    slope: Float[Array, "b i j k d"],
) -> Float[Array, "b x y z c"]:
    """Gives the slope of the input `[b, x, y, z, c]`, phase after phase of a stride.

    Every stride-th voxel sees the same taps: convolving with these alone, turned
    round, multiplies no zeros. XLA's own form spreads zeros between the slopes.
    """
    grid = [-(-size // stride) for size in shape[1:4]]
    phases = []
    for phase in itertools.product(range(stride), repeat=3):
        taps, pads = [], []
        for start, side, out, whole in zip(
            phase, kernel.shape[:3], slope.shape[1:4], grid, strict=True
        ):
            middle = dilation * (side // 2)
            first = (start + middle) % stride
            count = len(range(first, side, stride))
            low = dilation * (count - 1) - (start + middle - first) // stride
            # A last voxel that a phase lacks is computed too, and cut off below.
            taps.append(slice(first, side, stride))
            pads.append((low, whole + dilation * (count - 1) - out - low))
        part = kernel[tuple(taps)]
        if part.size:
            turned = jnp.flip(part, (0, 1, 2)).swapaxes(3, 4)
            phases.append(_fold(slope, turned, dilation, pads))
        else:
            phases.append(jnp.zeros((shape[0], *grid, shape[4]), slope.dtype))
    if stride == 1:
        return phases[0]
    found = jnp.stack(phases).reshape(stride, stride, stride, *phases[0].shape)
    found = found.transpose(3, 4, 0, 5, 1, 6, 2, 7)
    found = found.reshape(shape[0], *(stride * size for size in grid), shape[4])
    return found[:, : shape[1], : shape[2], : shape[3]]


def _kernel_slope(
    stride: int,
    dilation: int,
    cells: Float[Array, "b x y z c"],
    shape: tuple[int, ...],
    slope: Float[Array, "b i j k d"],
) -> Float[Array, "p q r c d"]:
    """Gives the slope of the kernel `[p, q, r, c, d]`: patches times slopes."""
    p, q, r, before, after = shape
    (low, high), *edges = symmetric(shape, dilation)
    folds = stride == 1 and before > _FEW
    if folds:
        moves = [number * dilation - low for number in range(p)]
        length = cells.shape[1]
        slope = jnp.concatenate([_shift(slope, move, length) for move in moves], -1)
    else:
        length = slope.shape[1]
        cells = _neighbours(cells, p, stride, dilation, (low, high), length)
    cells = _pad(cells, [(0, 0), *edges])
    found = _patches_times(stride, dilation, cells, (q, r), slope)
    if folds:
        return found.reshape(q, r, before, p, after).transpose(3, 0, 1, 2, 4)
    return found.reshape(q, r, p, before, after).transpose(2, 0, 1, 3, 4)


def _patches_times(
    stride: int,
    dilation: int,
    cells: Float[Array, "b x y z c"],
    sides: tuple[int, int],
    slope: Float[Array, "b x j k d"],
) -> Float[Array, "qrc d"]:
    """Sums patch times slope over all positions, a few planes at a time."""
    *_, j, k, after = slope.shape
    planes = cells.shape[0] * cells.shape[1]
    most = max(1, _ROWS // (j * k))
    few = next(n for n in range(min(most, planes), 0, -1) if planes % n == 0)
    # Gathered rather than put together of slices: as fast, and quicker to compile.
    y, z = (
        stride * np.arange(size)[:, None] + dilation * np.arange(side)
        for size, side in zip((j, k), sides, strict=True)
    )

    def add(found, pair):
        images, slopes = pair
        window = images.at[:, y[:, None, :, None], z[None, :, None, :]]
        patches = window.get(mode="promise_in_bounds").reshape(few * j * k, -1)
        return found + patches.T @ slopes, None

    images = cells.reshape(-1, few, *cells.shape[2:])
    slopes = slope.reshape(-1, few * j * k, after)
    empty = jnp.zeros((sides[0] * sides[1] * cells.shape[-1], after), cells.dtype)
    return jax.lax.scan(add, empty, (images, slopes))[0]
