"""The whole-volume U-Net without JAX: NumPy's products, for scans not yet prepared.

The same arithmetic as `WholeUNet` in the room of models, read from a safetensors file
of its parameters by dotted path. One thread: a machine's masks do not depend on how
many cores were free.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from safetensors import SafetensorError, safe_open
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from brainjax.errors import InputRefusedError

EPSILON = 1e-5
"""Of every group norm."""

Weights = Mapping[str, Float32[np.ndarray, "..."]]
Cells = Float32[np.ndarray, "x y z c"]


class WeightsFile(NamedTuple):
    """Parameters by dotted path, float32, and the texts that lie beside them."""

    weights: Weights
    facts: dict[str, str]


def read_weights(path: Path) -> WeightsFile:
    """Reads a safetensors file; float16 is widened.

    Raises:
      InputRefusedError: no such file, a damaged one, or no U-Net's.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = dict(file.metadata() or {})
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        line = str(error).partition("\n")[0]
        raise InputRefusedError(f"{path}: wanted safetensors, got {line}") from None
    for key in ("stem.kernel", "out.kernel", "norm.scale"):
        if key not in found:
            raise InputRefusedError(f"{path}: wanted a U-Net's weights, got no {key}")
    return WeightsFile({k: v.astype(np.float32) for k, v in found.items()}, facts)


def segment(weights: Weights, volume: Cells) -> Float32[np.ndarray, "x y z k"]:
    """Gives the logits of a z-scored volume [x, y, z, channels], 0 outside."""
    layers = _Layers(weights)
    with threadpool_limits(limits=1, user_api="blas"):
        image = fold(volume)
        cells = layers.linear("stem", image)
        skips = [layers.blocks("stem_blocks", cells)]
        for level in range(layers.count("stages")):
            cells = layers.linear(f"stages.{level}.down", fold(skips[-1]))
            skips.append(layers.blocks(f"stages.{level}.blocks", cells))
        cells = skips.pop()
        for level, skip in enumerate(reversed(skips)):
            upper = repeat(layers.linear(f"ups.{level}", cells))
            cells = skip + _first(upper, skip.shape)
            cells = layers.blocks(f"up_blocks.{level}", cells)
        cells = layers.norm("norm", cells)
        if "beside.kernel" in weights:
            both = np.concatenate([cells, image], axis=-1)
            cells = np.maximum(layers.linear("beside", both), 0)
        found = unfold(layers.linear("out", cells))
    return _first(found, volume.shape)


def _first(cells: Cells, shape: tuple[int, ...]) -> Float32[np.ndarray, "i j k c"]:
    """Cuts off what padding added."""
    x, y, z = shape[:3]
    return cells[:x, :y, :z]


class _Layers(NamedTuple):
    """Layers by the dotted path of their parameters."""

    weights: Weights

    def count(self, name: str) -> int:
        """Gives how many layers a list has."""
        start = f"{name}."
        found = (k.removeprefix(start) for k in self.weights if k.startswith(start))
        return len({key.partition(".")[0] for key in found})

    def linear(self, name: str, cells: Cells) -> Float32[np.ndarray, "x y z d"]:
        found = cells @ self.weights[f"{name}.kernel"]
        found += self.weights[f"{name}.bias"]
        return found

    def norm(self, name: str, cells: Cells) -> Cells:
        """Group norm, then what is positive of it."""
        scale, bias = (self.weights[f"{name}.{word}"] for word in ("scale", "bias"))
        flat = cells.reshape(-1, cells.shape[-1])
        groups = max(g for g in range(1, 9) if flat.shape[1] % g == 0)
        flat = flat - _of_groups(flat.mean(0, dtype=np.float64), groups)
        square = np.einsum("nc,nc->c", flat, flat, dtype=np.float64) / len(flat)
        flat *= scale / np.sqrt(_of_groups(square, groups) + np.float32(EPSILON))
        flat += bias
        return np.maximum(flat, 0, out=flat).reshape(cells.shape)

    def blocks(self, name: str, cells: Cells) -> Cells:
        """Residual blocks, one after the other."""
        for number in range(self.count(name)):
            hidden = cells
            for half in (1, 2):
                hidden = self.norm(f"{name}.{number}.norm{half}", hidden)
                kernel = self.weights[f"{name}.{number}.conv{half}.kernel"]
                hidden = convolve(hidden, kernel)
            cells = cells + hidden
        return cells


def _of_groups(
    values: Float64[np.ndarray, " c"], groups: int
) -> Float32[np.ndarray, " c"]:
    """Gives each channel the mean of its group."""
    means = values.reshape(groups, -1).mean(1)
    return np.repeat(means, len(values) // groups).astype(np.float32)


def convolve(
    cells: Cells, kernel: Float32[np.ndarray, "3 3 3 c d"]
) -> Float32[np.ndarray, "x y z d"]:
    """Gives the 3x3x3 convolution of the same size, 0 beyond the volume.

    Plane by plane: the nine neighbours in the plane side by side, times what each of
    three planes makes of them; the products are then added to those planes.
    """
    x, y, z, before = cells.shape
    after = kernel.shape[-1]
    # [3, 3, 3, c, d] to [(y, z, c), (x, d)]
    matrix = kernel.transpose(1, 2, 3, 0, 4).reshape(9 * before, 3 * after)
    padded = np.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = np.empty((y, z, 9, before), np.float32)
    out = np.zeros((x + 2, y, z, after), np.float32)
    for plane in range(x):
        for tap, (j, k) in enumerate(itertools.product(range(3), repeat=2)):
            around[:, :, tap] = padded[plane, j : j + y, k : k + z]
        found = (around.reshape(y * z, -1) @ matrix).reshape(y, z, 3, after)
        for step in range(3):
            # A cell is the next one's neighbour before it: kernel row 0.
            out[plane + 2 - step] += found[:, :, step]
    return out[1:-1]


def fold(cells: Cells) -> Float32[np.ndarray, "i j k d"]:
    """Folds 2x2x2 cells into channels (d = 8c); odd sides are padded by 0."""
    odd = [(0, side % 2) for side in cells.shape[:3]]
    cells = np.pad(cells, [*odd, (0, 0)])
    x, y, z, c = cells.shape
    pairs = cells.reshape(x // 2, 2, y // 2, 2, z // 2, 2, c)
    return pairs.transpose(0, 2, 4, 1, 3, 5, 6).reshape(x // 2, y // 2, z // 2, 8 * c)


def unfold(cells: Float32[np.ndarray, "i j k d"]) -> Cells:
    """Spreads channels over 2x2x2 cells: the inverse of `fold`."""
    i, j, k, d = cells.shape
    octets = cells.reshape(i, j, k, 2, 2, 2, d // 8).transpose(0, 3, 1, 4, 2, 5, 6)
    return octets.reshape(2 * i, 2 * j, 2 * k, d // 8)


def repeat(cells: Cells) -> Float32[np.ndarray, "i j k c"]:
    """Puts every cell in the place of 2x2x2."""
    for axis in range(3):
        cells = cells.repeat(2, axis=axis)
    return cells
