"""The exact recipes against MONAI's transforms on every real scan there is."""

import time
import warnings

import numpy as np
import pytest

from brainjax.volume import make_recipe, prepare_volume
from tests.golden.make_recipes import monai_recipes, write_odd_scan

TOLERANCE = 1e-4
NAMES = ("brainiac_v2", "brainiac_v1", "brainiac_v1_trilinear")


@pytest.fixture(scope="module")
def peers():
    pytest.importorskip("torch", reason="PyTorch is not here")
    pytest.importorskip("monai", reason="MONAI is not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import and in transforms
        yield monai_recipes()


def difference(peer, path, recipe) -> tuple[float, float, float]:
    """Gives the largest absolute difference, and the seconds of theirs and ours."""
    start = time.perf_counter()
    theirs = np.asarray(peer(path).numpy())[0]
    middle = time.perf_counter()
    ours = prepare_volume(path, recipe).codes
    end = time.perf_counter()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    return float(np.abs(ours - theirs).max()), middle - start, end - middle


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
def test_every_real_scan_and_label_map(peers, sample_scans, name):
    paths = sorted(sample_scans.rglob("*.nii*"))
    assert len(paths) >= 300
    rows = [difference(peers[name], path, make_recipe(name)) for path in paths]
    largest, theirs, ours = np.array(rows).T
    print(
        f"\n{name}: {len(paths)} files, max |difference| {largest.max():.2g} "
        f"({paths[largest.argmax()].name}); median ms a file: MONAI "
        f"{1000 * np.median(theirs):.0f}, brainjax {1000 * np.median(ours):.0f}"
    )
    assert largest.max() < TOLERANCE


@pytest.mark.reference
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(96, 96, 96), (128, 128, 128), (24, 130, 96)])
def test_sizes_that_agree_shrink_and_grow(peers, name, shape, tmp_path):
    import nibabel as nib

    voxels = np.random.default_rng(0).normal(0, 100, shape).round().astype(np.int16)
    voxels[: shape[0] // 4] = 0
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 2.0, 2.0, 1.0])), path)
    assert difference(peers[name], path, make_recipe(name))[0] < TOLERANCE


@pytest.mark.reference
def test_the_fixture_is_still_what_monai_gives(peers, tmp_path):
    path = write_odd_scan(tmp_path / "odd.nii.gz")
    for name in NAMES:
        assert difference(peers[name], path, make_recipe(name))[0] < 1e-5
