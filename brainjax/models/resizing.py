"""Trained encoders on another input: its size, its patch, its channels.

Everything here is NumPy, in float64, given back as float32. What each function
preserves is stated in it; nothing else is, and the encoder should be tuned afterwards.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least, triple
from brainjax.models.positions import Grid
from brainjax.models.pure import Tree
from brainjax.models.vit import ViT

STEMS = {
    "vit": (("embed", "kernel"),),
    "resnet": (("stem", "kernel"),),
    "segresnet": (("stem", "kernel"),),
    "densenet": (("stem", "kernel"),),
}
"""Kernels that read the volume's channels, by encoder; others take one channel."""


def resize_encoder(
    name: str,
    keywords: Mapping[str, Any],
    params: Tree,
    *,
    shape: int | tuple[int, int, int] | None = None,
    patch: int | tuple[int, int, int] | None = None,
    channels: int | None = None,
) -> tuple[dict[str, Any], Tree]:
    """Gives an encoder's keywords and parameters for another input.

    A convolutional encoder's parameters do not depend on the shape. What is None stays;
    what is already so stays bit for bit.

    Args:
        name: row of `ENCODERS`.
        keywords: of its constructor.
        params: nested dict, as in `to_pure`; it is not changed.
        shape: voxels of the new volumes.
        patch: voxels of the new patches, for "vit".
        channels: of the new volumes, from one to several or back.

    Raises:
        InputRefusedError: the encoder has no patch or takes one channel, the patch does
            not divide the shape, or both numbers of channels are above one.
    """
    found = dict(keywords)
    if patch is not None:
        if name != "vit":
            raise InputRefusedError(f"patch: wanted an encoder vit, got {name}")
        found["patch"] = triple(patch, "patch")
    if shape is not None:
        found["shape"] = triple(shape, "shape")
    if channels is not None and channels != _channels(name, keywords):
        found["channels"] = at_least(1, channels, "channels")
        params = _change_stems(name, params, _channels(name, keywords), channels)
    if name == "vit" and (shape is not None or patch is not None):
        params = _resize_vit(_plan(keywords), _plan(found), params)
    return found, params


def resize_positions(
    positions: np.ndarray, grid: Grid, new_grid: Grid, prefix: int = 0
) -> np.ndarray:
    """Interpolates learned positions `[1, prefix + n, d]` to another grid of patches.

    Trilinear with half-voxel centres, held at the borders and without anti-aliasing
    when shrinking, as PyTorch's `interpolate(align_corners=False)`. The same grid gives
    the same values bit for bit; a constant stays one; a linear ramp stays linear but
    for the border; doubled and halved again, inner cells are smoothed by (1, 6, 1) / 8
    along each axis. The first `prefix` positions are kept.
    """
    if tuple(grid) == tuple(new_grid):
        return positions
    positions = np.asarray(positions)
    kept, cells = positions[:, :prefix], positions[0, prefix:]
    weights = [linear_weights(a, b) for a, b in zip(grid, new_grid, strict=True)]
    cells = _along_axes(weights, cells.reshape(*grid, -1))
    found = cells.reshape(1, -1, positions.shape[-1]).astype(np.float32)
    return np.concatenate([kept, found], axis=1)


def resize_patches(
    kernel: np.ndarray, patch: Grid, new_patch: Grid, channels: int = 1
) -> np.ndarray:
    """Turns a patch product `[p * q * r * channels, width]` into one for other patches.

    The pseudo-inverse of resizing the patch (FlexiViT, Beyer et al. 2023), where a
    voxel is a box and resizing takes the mean over boxes. For a whole ratio, growing or
    shrinking, a volume and the one whose voxels are split give the same tokens; growing
    and shrinking back gives the kernel back. For other ratios a grown patch gives the
    same token. The same patch gives the same values bit for bit.
    """
    if tuple(patch) == tuple(new_patch):
        return kernel
    cells = np.asarray(kernel).reshape(*patch, -1)
    weights = [
        np.linalg.pinv(area_weights(a, b).T)
        for a, b in zip(patch, new_patch, strict=True)
    ]
    cells = _along_axes(weights, cells)
    rows = int(np.prod(new_patch)) * channels
    return cells.reshape(rows, -1).astype(np.float32)


def widen_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel of one channel for `channels` of them: each has its share.

    Where all channels are equal, the answer is that of one. `[x, y, z, 1, after]` is a
    convolution, `[voxels, after]` a patch product (the channels of a voxel side by
    side).
    """
    kernel = np.asarray(kernel)
    share = (kernel.astype(np.float64) / channels).astype(np.float32)
    return np.repeat(share, channels, axis=3 if kernel.ndim == 5 else 0)


def narrow_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel of `channels` for one: their sum, the answer where all are equal.

    It is the inverse of `widen_stem`: exact for 2, 4 and 8 channels, else to rounding.
    """
    kernel = np.asarray(kernel)
    if kernel.ndim == 5:
        return kernel.sum(axis=3, keepdims=True, dtype=np.float64).astype(np.float32)
    voxels = kernel.reshape(-1, channels, kernel.shape[-1])
    return voxels.sum(axis=1, dtype=np.float64).astype(np.float32)


def linear_weights(old: int, new: int) -> np.ndarray:
    """Linear interpolation of `old` cells at centres of `new` ones, `[new, old]`."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    places = places.clip(0, old - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))


def area_weights(old: int, new: int) -> np.ndarray:
    """The part of each of `new` boxes that each of `old` ones covers, `[new, old]`."""
    # In whole numbers of 1 / (old * new), so that whole ratios are exact.
    edges, new_edges = np.arange(old + 1) * new, np.arange(new + 1) * old
    ends = np.minimum(new_edges[1:, None], edges[1:])
    starts = np.maximum(new_edges[:-1, None], edges[:-1])
    return np.maximum(0, ends - starts) / old


def _along_axes(weights: list[np.ndarray], cells: np.ndarray) -> np.ndarray:
    return np.einsum(
        "ax,by,cz,xyzd->abcd", *weights, cells.astype(np.float64), optimize=True
    )


def _resize_vit(old: ViT, new: ViT, params: Tree) -> Tree:
    kernel = params["embed"]["kernel"]
    kernel = resize_patches(kernel, old.patch, new.patch, new.channels)
    params = {**params, "embed": {**params["embed"], "kernel": kernel}}
    if "positions" in params:
        prefix = old.prefix if old.prefix_positions else 0
        positions = resize_positions(params["positions"], old.grid, new.grid, prefix)
        params["positions"] = positions
    return params


def _plan(keywords: Mapping[str, Any]) -> ViT:
    return nnx.eval_shape(lambda: ViT(rngs=nnx.Rngs(0), **keywords))


def _channels(name: str, keywords: Mapping[str, Any]) -> int:
    return keywords.get("channels", 1) if name in STEMS else 1


def _change_stems(name: str, params: Tree, old: int, new: int) -> Tree:
    if name not in STEMS:
        raise InputRefusedError(f"channels: {name} takes 1, got {new}")
    if old > 1 and new > 1:
        raise InputRefusedError(
            f"channels: wanted one to several or several to one, got {old} to {new}"
        )
    for path in STEMS[name]:
        params = _replace(
            params,
            path,
            lambda kernel: (
                widen_stem(kernel, new) if old == 1 else narrow_stem(kernel, old)
            ),
        )
    return params


def _replace(tree: Tree, path: tuple[str, ...], change) -> Tree:
    first, *rest = path
    if not rest:
        return {**tree, first: change(tree[first])}
    return {**tree, first: _replace(tree[first], tuple(rest), change)}
