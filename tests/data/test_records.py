"""From raw scans through real records to batches, a damaged record among them."""

import nibabel as nib
import numpy as np
import pytest

from brainjax.data import batches, load_resident
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.records.store import open_dataset
from brainjax.volume.recipe import make_recipe

SCANS = 5


def write_scan(path, seed: int) -> None:
    """A noisy ball, 4 mm voxels: small, but a head as far as `prepare` can tell."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    noise = np.random.default_rng(seed).normal(100, 20, grid.shape[1:])
    ball = np.where(np.linalg.norm(grid, axis=0) < 0.8, noise, 0).astype(np.float32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -80
    nib.save(nib.Nifti1Image(ball, affine), path)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of records made out of five raw scans."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed in range(SCANS):
        write_scan(folder / f"sub-{seed}_T1w.nii.gz", seed)
    recipe = make_recipe("stripped", spacing=8.0, fov_mm=(160.0, 160.0, 160.0))
    done = prepare(find_sources([folder]), folder / "records", recipe, progress=False)
    assert (done.total, done.failures) == (SCANS, [])
    return folder / "records"


def test_batches_come_out_of_records(prepared):
    dataset = open_dataset(prepared)
    loader = batches(dataset, np.arange(SCANS), batch=SCANS, seed=0)
    batch = next(loader)
    loader.close()
    assert sorted(batch.records) == list(range(SCANS))
    assert batch.volumes.shape == (SCANS, *dataset.shape)
    assert len(set(batch.subjects)) == SCANS
    for volume, record in zip(batch.volumes, batch.records, strict=True):
        np.testing.assert_array_equal(volume, dataset.read(int(record)))
        assert volume.max() > 0
    resident = load_resident(dataset, np.arange(SCANS))
    np.testing.assert_array_equal(resident.volumes[batch.records], batch.volumes)
