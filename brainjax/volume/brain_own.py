"""The brain of a head by a network of our own, at 2 mm; its weights lie beside it.

It learnt from T1w heads and from contrasts made up of them (augment/synthesis.py), so
that a sequence it never saw is a contrast like any other. What it learnt on is what it
gets here: the field of view, codes and z-score of recipe `raw_head`.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.errors import InputRefusedError
from brainjax.volume.brain_network import WeightsFile, read_weights, segment
from brainjax.volume.centred import Recipe, field_of_view
from brainjax.volume.intensity import OUTSIDE, quantise, robust_limits
from brainjax.volume.mask import find_mask, whole_body
from brainjax.volume.scan import Scan, spacing_of
from brainjax.volume.space import Grid, GridAxis, resample

WEIGHTS = Path(__file__).with_name("weights") / "brain_mask.safetensors"

FACT = "brain_mask"
"""Name of the text beside the weights: JSON of what they are and learnt from."""

NO_WEIGHTS = (
    "mask: wanted the weights of 'own', got no brain_mask.safetensors; 'template' "
    "needs none"
)

RECIPE = Recipe("raw_head", mask="head", spacing=2.0, fov_mm=(192.0, 224.0, 192.0))
"""How the scans were prepared that it learnt from."""

FAR = 8.0
"""Logits are cut here; beyond the field of view lies minus this."""


def has_weights() -> bool:
    """Says whether the network's weights are there."""
    return WEIGHTS.is_file()


def weights_digest() -> str:
    """Gives 12 hex characters of the weights; none where there are no weights."""
    return _digest(WEIGHTS, WEIGHTS.stat().st_mtime_ns) if has_weights() else ""


@lru_cache(maxsize=1)
def _digest(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _load(path: Path, _changed: int) -> WeightsFile:
    return read_weights(path)


def weights_facts() -> dict[str, Any]:
    """Gives what the weights' file says of itself; empty where there is none.

    Among it network, task, recipe, checkpoint and subjects (hashed names).
    """
    if not has_weights():
        return {}
    found = _load(WEIGHTS, WEIGHTS.stat().st_mtime_ns).facts
    return json.loads(found.get(FACT, "{}"))


def find_by_network(
    voxels: Float32[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"]
) -> Bool[np.ndarray, "x y z"]:
    """Gives the brain of a head of any sequence, ventricles and outer fluid included.

    Args:
        voxels: the scan, axes in RAS+.
        affine: its voxel indices to mm.

    Raises InputRefusedError where the weights are absent or damaged.
    """
    if not has_weights():
        raise InputRefusedError(NO_WEIGHTS)
    weights, _ = _load(WEIGHTS, WEIGHTS.stat().st_mtime_ns)
    volume, grid = network_input(voxels, affine)
    logits = segment(weights, volume[..., None])[..., 0]
    return whole_body(on_scan(logits, grid, voxels.shape) > 0)


def network_input(
    voxels: Float32[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"]
) -> tuple[Float32[np.ndarray, "i j k"], Grid]:
    """Gives what the network sees, z-scored in the head and 0 outside; and its grid."""
    scan = Scan(voxels, affine, spacing_of(affine), {})
    head = find_mask(voxels, scan.spacing, kind="head")
    grid = field_of_view(scan, head, RECIPE)
    inside = head.on(grid)
    if not inside.any():
        return np.zeros(grid.shape, np.float32), grid
    small = resample(voxels, grid)
    codes = quantise(small, inside, robust_limits(small, inside, RECIPE.clip))
    return normalise(codes), grid


def normalise(codes: np.ndarray) -> Float32[np.ndarray, "i j k"]:
    """Gives the z-score of codes over the head; of a constant one, zeros.

    As augment/views.py does for a network in training.
    """
    inside = codes > OUTSIDE
    values = (codes.astype(np.float32) - 1) / 254
    mean = values[inside].mean(dtype=np.float64)
    spread = values[inside].std(dtype=np.float64)
    scores = (values - mean) / spread if spread > 1e-4 else np.zeros(codes.shape)
    return np.where(inside, scores, 0).astype(np.float32)


def on_scan(
    logits: Float32[np.ndarray, "i j k"], grid: Grid, shape: tuple[int, ...]
) -> Float32[np.ndarray, "x y z"]:
    """Gives logits of a grid of a scan on the scan itself, linearly."""
    axes = (
        GridAxis(-axis.start / axis.step, 1 / axis.step, n)
        for axis, n in zip(grid, shape, strict=True)
    )
    return resample(np.clip(logits, -FAR, FAR) + np.float32(FAR), Grid(*axes)) - FAR
