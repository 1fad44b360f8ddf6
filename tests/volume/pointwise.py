"""A head with a bright brain, and a network of few layers that knows bright voxels."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SHAPE, MM = (44, 52, 46), 4.5
WIDTH = 8


def head() -> np.ndarray:
    """A dim ellipsoid, a bright one in it nearer to the top and the right, RAS."""
    at = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    near = at - np.array([2.0, 1.0, 4.0])[:, None, None, None]
    radii = [np.array(r)[:, None, None, None] for r in ((18, 22, 20), (13, 16, 12))]
    head = ((at / radii[0]) ** 2).sum(0) < 1
    brain = ((near / radii[1]) ** 2).sum(0) < 1
    texture = np.random.default_rng(0).integers(0, 20, SHAPE)
    return ((100 + texture) * head + 200 * brain).astype(np.int16)


def brain() -> np.ndarray:
    """Where the bright one is."""
    return head() > 250


def affine() -> np.ndarray:
    matrix = np.diag([MM, MM, MM, 1.0])
    matrix[:3, 3] = -90.0, -120.0, -100.0
    return matrix


def write_weights(path: Path) -> Path:
    """Writes weights by which a voxel is brain where it is bright, whatever is near."""
    eye, zero = np.eye(WIDTH), np.zeros((3, 3, 3, WIDTH, WIDTH))
    found = {"stem.kernel": eye, "out.kernel": 4 * eye, "ups.0.kernel": 0 * eye}
    found["stages.0.down.kernel"] = np.zeros((8 * WIDTH, WIDTH))
    for name in ("stem", "stages.0.down", "ups.0", "norm"):
        found[f"{name}.bias"] = np.zeros(WIDTH)
    found["norm.scale"] = np.ones(WIDTH)
    found["out.bias"] = np.full(WIDTH, -6.0)
    for block in ("stem_blocks.0", "stages.0.blocks.0", "up_blocks.0.0"):
        for half in (1, 2):
            found[f"{block}.conv{half}.kernel"] = zero
            found[f"{block}.norm{half}.scale"] = np.ones(WIDTH)
            found[f"{block}.norm{half}.bias"] = np.zeros(WIDTH)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.astype(np.float16) for key, value in found.items()}, path)
    return path
