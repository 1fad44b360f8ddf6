"""Input pipelines of other people's models, voxel for voxel: float32, axes as stored.

BrainIAC reads a scan's array as it lies in the file, whatever its affine says, resizes
it to a cube whatever its spacing, and scales it. Read from its released code: version 2
in `src/dataset.py` (`get_validation_transform`), version 1 in
`src/BrainIAC/dataset2.py` (`NormalSynchronizedTransform3D`), both on MONAI's
transforms, whose arithmetic (PyTorch's, in float32) is followed here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Canonical, Hashed
from brainjax.volume.scan import Scan, read_as_stored
from brainjax.volume.space import Grid, GridAxis, grid_affine

EXACT_VERSION = 1


@dataclass(frozen=True)
class ExactRecipe(Hashed):
    """A named way from a raw scan to what another project's network takes.

    Attributes:
        name: a key of RECIPES.
        version: of the code that carries it out.
        size: voxels along each axis.
        resize: a key of RESIZES.
        intensity: a key of INTENSITIES.
        storage: type of the stored array.
    """

    name: str
    version: int = EXACT_VERSION
    size: int = 96
    resize: str = "trilinear"
    intensity: str = "zscore_nonzero"
    storage: str = "float32"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three stored axes."""
        return self.size, self.size, self.size

    def describe(self) -> str:
        """Gives "brainiac_v2 (96x96x96, float32)"."""
        return f"{self.name} ({'x'.join(map(str, self.shape))}, {self.storage})"


EXACT_RECIPES = {
    "brainiac_v2": ExactRecipe("brainiac_v2"),
    # The released code names no mode, which is MONAI's "area".
    "brainiac_v1": ExactRecipe(
        "brainiac_v1", size=128, resize="area", intensity="minmax"
    ),
    "brainiac_v1_trilinear": ExactRecipe(
        "brainiac_v1_trilinear", size=128, intensity="minmax"
    ),
}


class Taps(NamedTuple):
    """What each new voxel of an axis is made of: old voxels, and their weights."""

    columns: Int64[np.ndarray, "m k"]
    weights: Float32[np.ndarray, "m k"]


def linear_taps(size: int, target: int) -> Taps:
    """Gives linear interpolation between two of `size` voxels, for `target` new ones.

    Voxel centres are half-voxel exact, the border is held, nothing is smoothed before.
    Places are rounded to float32 where PyTorch rounds them: a voxel's place among 200
    is then off by 1e-5, the same as there.
    """
    step = float(np.float32(size) / np.float32(target))
    places = (step * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
    places = np.clip(places, 0, size - 1)
    low = places.astype(np.int64)
    share = places - low.astype(np.float32)
    columns = np.stack([low, np.minimum(low + 1, size - 1)], axis=1)
    return Taps(columns, np.stack([1 - share, share], axis=1))


def area_taps(size: int, target: int) -> Taps:
    """Gives means over the voxels that a new one covers.

    Voxel i is the mean of those from floor(i n/m) up to ceil((i + 1) n/m), n voxels
    becoming m: those on a border count whole, in both.
    """
    numbers = np.arange(target)
    first = numbers * size // target
    count = -((numbers + 1) * -size // target) - first
    reach = np.arange(count.max())
    columns = np.minimum(first[:, None] + reach, size - 1)
    within = reach < count[:, None]
    return Taps(columns, (within / count[:, None]).astype(np.float32))


RESIZES: dict[str, Callable[[int, int], Taps]] = {
    "trilinear": linear_taps,
    "area": area_taps,
}


def blend(
    lines: Float32[np.ndarray, "n ..."], taps: Taps
) -> Float32[np.ndarray, "m ..."]:
    """Gives an array at another size of its first axis, in float32.

    Each product is added before it is rounded (float64 holds it whole), as processors
    with a fused multiply-add do it for PyTorch: trilinear values are then the same to
    the last bit, and so is which of them are 0.
    """
    axes = (-1,) + (1,) * (lines.ndim - 1)
    *others, last = zip(taps.columns.T, taps.weights.T, strict=True)
    total = lines[last[0]] * last[1].reshape(axes)
    for columns, weights in reversed(others):
        product = lines[columns] * weights.astype(np.float64).reshape(axes)
        product += total
        total = product.astype(np.float32)
    return total


def resize_stored(
    voxels: Float32[np.ndarray, "x y z"], shape: tuple[int, int, int], *, resize: str
) -> Float32[np.ndarray, "i j k"]:
    """Gives the array at another size, axis by axis, the last axis first.

    That is PyTorch's order, and the fast one: NIfTI files keep x together, so a plane
    of z is one piece, and one at a time stays in the cache.
    """
    sizes = zip(voxels.shape, shape, strict=True)
    along_x, along_y, along_z = (RESIZES[resize](n, m) for n, m in sizes)
    planes = voxels.T
    out = np.empty(shape[::-1], np.float32)
    for number, target in enumerate(out):
        here = slice(number, number + 1)
        (plane,) = blend(planes, Taps(along_z.columns[here], along_z.weights[here]))
        lines = blend(plane, along_y)
        target[:] = blend(np.ascontiguousarray(lines.T), along_x).T
    return np.ascontiguousarray(out.T)


class Scaled(NamedTuple):
    """Values as the network takes them: (scan - offset) / scale."""

    values: Float32[np.ndarray, "x y z"]
    offset: float
    scale: float


def zscore_nonzero(path: str | Path, voxels: Float32[np.ndarray, "x y z"]) -> Scaled:
    """Gives z-scores over the voxels that are not 0 (population); 0 stays 0."""
    inside = voxels != 0
    values = voxels[inside]
    if not values.size:
        raise InputRefusedError(f"{path}: wanted voxels that are not 0, got none")
    mean = np.float32(values.mean(dtype=np.float64))
    deviation = np.float32(values.std(dtype=np.float64))
    if not deviation > 0:
        raise InputRefusedError(
            f"{path}: wanted contrast where it is not 0, got the constant {mean:g}"
        )
    scored = np.zeros_like(voxels)
    scored[inside] = (values - mean) / deviation
    return Scaled(scored, float(mean), float(deviation))


def minmax(path: str | Path, voxels: Float32[np.ndarray, "x y z"]) -> Scaled:
    """Gives values in 0..1: the least of the whole array becomes 0, the largest 1."""
    low, high = voxels.min(), voxels.max()
    if not high > low:
        raise InputRefusedError(
            f"{path}: wanted contrast after resizing, got the constant {low:g}"
        )
    spread = high - low
    return Scaled((voxels - low) / spread, float(low), float(spread))


INTENSITIES: dict[str, Callable[..., Scaled]] = {
    "zscore_nonzero": zscore_nonzero,
    "minmax": minmax,
}


def prepare_exact(
    path: str | Path, recipe: ExactRecipe, *, orientation: str | None = None
) -> Canonical:
    """Gives what the recipe's network takes of a raw scan, and the affine of it.

    `orientation`, of a scan whose header states none, goes into the affine alone.
    Raises InputRefusedError, one line that names the file.
    """
    scan = read_as_stored(path, orientation=orientation)
    resized = resize_stored(scan.voxels, recipe.shape, resize=recipe.resize)
    scaled = INTENSITIES[recipe.intensity](path, resized)
    provenance = {
        **scan.provenance,
        "axes": "stored",
        "intensity_offset": scaled.offset,
        "intensity_scale": scaled.scale,
        "recipe": recipe.hash,
    }
    affine = grid_affine(scan.affine, _whole(scan, recipe.shape))
    return Canonical(scaled.values, affine, provenance)


def _whole(scan: Scan, shape: tuple[int, int, int]) -> Grid:
    """Lays `shape` voxels over the whole array: outer faces meet, not centres."""
    steps = (n / m for n, m in zip(scan.voxels.shape, shape, strict=True))
    x, y, z = (
        GridAxis((step - 1) / 2, step, m) for step, m in zip(steps, shape, strict=True)
    )
    return Grid(x, y, z)


def check_trainable(
    recipe: Hashed,
    source: str | Path,
    *,
    orientations: Sequence[str] = (),
    flip: float = 0.0,
) -> None:
    """Refuses to train on volumes that augmentation would make something else of.

    A training view ends in a z-score: volumes scaled to 0..1 are for embed and predict
    only. A flip exchanges the first axis: where axes are as stored, that must be left
    and right in every scan (`orientations`, as in the manifest) unless `flip`, its
    probability, is 0.

    Raises InputRefusedError, which names the source of the volumes.
    """
    if not isinstance(recipe, ExactRecipe):
        return
    if recipe.intensity == "minmax":
        raise InputRefusedError(
            f"{source}: made by recipe {recipe.describe()}, which serves embed and "
            "predict only; prepare with canonical or brainiac_v2 to train"
        )
    others = [letters for letters in orientations if letters[0] not in "LR"]
    if flip and others:
        raise InputRefusedError(
            f"{source}: wanted left-right as the first stored axis of every scan to "
            f"flip, got {len(others)} of another, such as {others[0]}; set "
            "augment.flip=0"
        )
