"""Recipes that leave a scan in its own space: masked, centred, resampled, scaled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Canonical, Hashed
from brainjax.volume.intensity import quantise, robust_limits
from brainjax.volume.mask import Mask, find_mask, millilitres
from brainjax.volume.scan import Scan, read_scan
from brainjax.volume.space import Grid, axis_round, grid_affine, resample

VERSION = 1

BODY_ML = (100.0, 12000.0)
"""A brain or head has a volume in this range."""

TOP_MARGIN_MM = 5.0
CRANIUM_MM = 100.0
"""How far below its top a head is centred by: above the nose."""


@runtime_checkable
class Sized(Protocol):
    """What has a field of view: voxels, mm in all and mm a voxel, along x, y, z."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def fov_mm(self) -> tuple[float, float, float]: ...

    @property
    def voxel_mm(self) -> tuple[float, float, float]: ...


@dataclass(frozen=True)
class Recipe(Hashed):
    """A named way from a raw scan to a canonical volume.

    Attributes:
        name: a key of RECIPES.
        version: of the code that carries it out.
        spacing: of the isotropic output voxels, in mm.
        fov_mm: field of view along x, y, z, in mm.
        mask: "nonzero", "head", or "auto" to tell them apart by the scan.
        clip: percentiles inside the mask that become 0 and 1.
        storage: type of the stored array.
    """

    name: str
    version: int = VERSION
    spacing: float = 1.0
    fov_mm: tuple[float, float, float] = (192.0, 192.0, 192.0)
    mask: str = "auto"
    clip: tuple[float, float] = (0.5, 99.5)
    storage: str = "uint8"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z: field of view by spacing."""
        x, y, z = (round(mm / self.spacing) for mm in self.fov_mm)
        return x, y, z

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Spacing along x, y, z, in mm."""
        return self.spacing, self.spacing, self.spacing

    def describe(self) -> str:
        """Gives "canonical (192x192x192, 1 mm)"."""
        return f"{self.name} ({'x'.join(map(str, self.shape))}, {self.spacing:g} mm)"


def check_sizes(recipe: Sized, spacing: float) -> None:
    """Refuses a spacing and a field of view that make no volume."""
    if not 0.2 <= spacing <= 16:
        raise InputRefusedError(f"spacing: wanted 0.2 to 16 mm, got {spacing:g}")
    for mm, n in zip(recipe.fov_mm, recipe.shape, strict=True):
        if not 8 <= n <= 1024 or abs(n * spacing - mm) > 1e-6 * mm:
            raise InputRefusedError(
                f"fov-mm: wanted 8 to 1024 whole voxels of {spacing:g} mm, "
                f"got {mm:g} mm"
            )


def prepare_centred(
    path: str | Path,
    recipe: Recipe,
    *,
    mask_path: str | Path | None = None,
    orientation: str | None = None,
) -> Canonical:
    """Gives the canonical volume of a raw scan in its own space.

    Raises InputRefusedError, one line that names the file.
    """
    scan = read_scan(path, orientation=orientation)
    if mask_path is None:
        mask = find_mask(scan.voxels, scan.spacing, kind=recipe.mask)
    else:
        mask = given_mask(scan, mask_path, orientation)
    volume = check_body(path, mask, scan.affine)
    grid = field_of_view(scan, mask, recipe)
    return _canonical(path, scan, mask, grid, recipe, volume)


def check_body(
    path: str | Path, mask: Mask, affine: Float64[np.ndarray, "4 4"]
) -> float:
    """Gives the volume of a head or brain in ml; refuses what can be neither."""
    grid = affine if mask.grid is None else grid_affine(affine, mask.grid)
    volume = millilitres(mask.voxels, grid)
    low, high = BODY_ML
    if not low <= volume <= high:
        raise InputRefusedError(
            f"{path}: wanted a {'head' if mask.kind == 'head' else 'brain'} of "
            f"{low:g}-{high:g} ml, got {volume:.1f} ml"
        )
    return round(volume, 1)


def _mask_spacing(mask: Mask, spacing: tuple) -> tuple:
    if mask.grid is None:
        return spacing
    return tuple(axis.step * mm for axis, mm in zip(mask.grid, spacing, strict=True))


def _canonical(
    path: str | Path, scan: Scan, mask: Mask, grid: Grid, recipe: Recipe, volume: float
) -> Canonical:
    inside = mask.on(grid)
    if not inside.any():
        raise InputRefusedError(
            f"{path}: wanted a brain in the field of view, got none"
        )
    voxels = resample(scan.voxels, grid)
    if mask.kind != "head":
        # Beyond the mask lies nothing: its zeros must not darken the brain's edge.
        body = mask.voxels.astype(np.float32)
        weight = resample(body, grid)
        voxels = resample(scan.voxels * body, grid) / np.where(inside, weight, 1)
    limits = robust_limits(voxels, inside, recipe.clip)
    if not limits.high > limits.low:
        raise InputRefusedError(
            f"{path}: wanted contrast inside the mask, got the constant {limits.low:g}"
        )
    provenance = {
        **scan.provenance,
        "mask": mask.kind,
        "mask_ml": volume,
        "clip_low": limits.low,
        "clip_high": limits.high,
        "recipe": recipe.hash,
    }
    return Canonical(
        quantise(voxels, inside, limits), grid_affine(scan.affine, grid), provenance
    )


def given_mask(scan: Scan, path: str | Path, orientation: str | None) -> Mask:
    """Reads the mask of a scan; refuses one that lies elsewhere."""
    mask = read_scan(path, orientation=orientation)
    same = mask.voxels.shape == scan.voxels.shape
    if not same or not np.allclose(mask.affine, scan.affine, atol=0.1):
        raise InputRefusedError(
            f"{path}: wanted a mask on the grid of {scan.provenance['source']} "
            f"{scan.voxels.shape}, got {mask.voxels.shape} elsewhere or of another size"
        )
    return Mask(mask.voxels > 0, "given", None)


def field_of_view(scan: Scan, mask: Mask, recipe: Sized) -> Grid:
    """Lays the field of view round the brain, or from the top of a head downwards."""
    mask_spacing = _mask_spacing(mask, scan.spacing)
    centre_mm = _brain_centre(mask.voxels, mask_spacing)
    if mask.kind == "head":
        centre_mm = _below_top(mask.voxels, mask_spacing, recipe.fov_mm[2])
    axes = []
    for axis, mm in enumerate(centre_mm):
        index = mm / mask_spacing[axis]
        if mask.grid is not None:
            index = mask.grid[axis].start + index * mask.grid[axis].step
        size = recipe.shape[axis]
        step = recipe.voxel_mm[axis]
        axes.append(axis_round(index, scan.spacing[axis], step, size))
    x, y, z = axes
    return Grid(x, y, z)


def _brain_centre(mask: Bool[np.ndarray, "x y z"], spacing: tuple) -> list[float]:
    """Gives the middle of the brain along each axis, in mm from the first voxel."""
    return [sum(_extent(mask, axis, spacing)) / 2 * spacing[axis] for axis in range(3)]


def _below_top(
    mask: Bool[np.ndarray, "x y z"], spacing: tuple, height_mm: float
) -> list[float]:
    """Gives the centre of a field of view that begins just above the head, in mm."""
    _, top = _extent(mask, 2, spacing)
    cranium = mask[:, :, max(int(top - CRANIUM_MM / spacing[2]), 0) :]
    x, y, _ = _brain_centre(cranium, spacing)
    return [x, y, (top + 0.5) * spacing[2] + TOP_MARGIN_MM - height_mm / 2]


def _extent(
    mask: Bool[np.ndarray, "x y z"], axis: int, spacing: tuple
) -> tuple[float, float]:
    """Gives the first and last plane that cuts more than 4 cm2, or any at all."""
    others = tuple(i for i in range(3) if i != axis)
    areas = mask.sum(axis=others) * float(np.prod([spacing[i] for i in others]))
    used = np.flatnonzero(areas > 400.0)
    if not used.size:
        used = np.flatnonzero(areas > 0)
    return float(used[0]), float(used[-1])
