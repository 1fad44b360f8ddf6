"""Where a patch lies: the grid of patches, and positions that are a formula."""

import numpy as np

from brainjax.errors import InputRefusedError

Grid = tuple[int, int, int]

TEMPERATURE = 10000.0


def patch_grid(shape: Grid, patch: Grid) -> Grid:
    """Patches along x, y, z of a volume; refuses a patch that does not divide it."""
    if any(side % p for side, p in zip(shape, patch, strict=True)):
        raise InputRefusedError(f"patch {patch} does not divide volume {shape}")
    i, j, k = (side // p for side, p in zip(shape, patch, strict=True))
    return i, j, k


def sincos_positions(grid: Grid, width: int) -> np.ndarray:
    """Positions by sines and cosines of the patch's place, float32 `[1, n, width]`.

    Six equal parts: sine and cosine along y, then x, then z, each of frequencies from
    1 down towards 1/10000. It is the order of MONAI's `build_sincos_position_embedding`
    in three dimensions, which is that of its source (SelfMedMAE).

    Raises:
        InputRefusedError: six does not divide the width.
    """
    if width % 6:
        raise InputRefusedError(
            f"positions: sincos wants a width that 6 divides, got {width}"
        )
    count = width // 6
    steps = np.arange(count, dtype=np.float32) / np.float32(count)
    frequencies = 1 / np.float32(TEMPERATURE) ** steps
    x, y, z = (axis.reshape(-1, 1) for axis in np.indices(grid, dtype=np.float32))
    angles = (axis * frequencies for axis in (y, x, z))
    parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1, dtype=np.float32)[None]


def is_sincos(positions: np.ndarray, grid: Grid) -> bool:
    """Whether stored positions `[1, n, width]` are those of the formula."""
    _, count, width = positions.shape
    if width % 6 or count != grid[0] * grid[1] * grid[2]:
        return False
    # Another library's sines differ in the last bits; trained ones by far more.
    return np.allclose(positions, sincos_positions(grid, width), rtol=0, atol=1e-5)
