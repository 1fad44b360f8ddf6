"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

# Two runs of the suite compile each program once.
CACHE = Path(__file__).parents[1] / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def sample_scans() -> Path:
    """The folder of real scans beside the checkout; skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real scans (../shared/data) are not here")
    return folder


def write_scan(path: Path, *, seed: int, size: float = 1.0, voxel: float = 8.0) -> Path:
    """Writes a stripped ellipsoid with a seeded texture, 24 cubed, RAS."""
    grid = (np.indices((24, 24, 24)) - 11.5) * voxel
    radii = np.array([62.0, 78.0, 60.0]) * size
    inside = ((grid / radii[:, None, None, None]) ** 2).sum(0) < 1
    texture = np.random.default_rng(seed).uniform(50, 200, inside.shape)
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -11.5 * voxel
    image = nib.Nifti1Image((texture * inside).astype(np.int16), affine)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory) -> Path:
    """Sixteen tiny scans of sixteen subjects, with ages that follow their size."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["participant_id\tage\tsex"]
    for number in range(16):
        name, size = f"sub-{number:02d}", 0.8 + 0.02 * number
        write_scan(folder / f"{name}_T1w.nii.gz", seed=number, size=size)
        lines.append(f"{name}\t{30 + 2 * number}\t{'FM'[number % 2]}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_prepared(tiny_cohort, tmp_path_factory) -> Path:
    """The tiny cohort, prepared at 8 mm: volumes of 24 cubed."""
    from brainjax.records.prepare import prepare
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    out = tmp_path_factory.mktemp("prepared") / "data"
    labels = tiny_cohort / "participants.tsv"
    recipe = make_recipe(spacing=8.0)
    prepare(find_sources([tiny_cohort]), out, recipe, labels=labels, progress=False)
    return out
