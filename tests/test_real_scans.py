"""Every real scan beside the checkout goes from its file to features."""

import csv

import numpy as np
import pytest

from brainjax.cli import main
from brainjax.records.sources import find_sources
from brainjax.records.store import open_dataset
from brainjax.train.pretrain import pretrain
from tests.train.configs import tiny_pretraining


@pytest.mark.slow
def test_every_real_scan_is_prepared_and_embedded(sample_scans, tmp_path):
    sources = find_sources([sample_scans])
    assert len(sources) >= 160
    out = tmp_path / "prepared"
    words = ["prepare", str(sample_scans), "--spacing", "8", "--out", str(out)]
    labels = ["--labels", str(sample_scans / "ixi" / "participants.tsv")]
    assert main([*words, *labels]) == 0
    dataset = open_dataset(out)
    assert len(dataset) == len(sources)
    run = pretrain(tiny_pretraining(out), tmp_path / "run").path
    table = tmp_path / "features.csv"
    assert main(["embed", str(run), str(sample_scans), "--out", str(table)]) == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(sources)
    assert len({row["feature_0"] for row in rows}) == len(sources)


def test_the_stroke_is_on_the_left(sample_scans):
    from brainjax.volume import make_recipe, prepare_volume

    scan = sample_scans / "stroke" / "T1.nii.gz"
    codes = prepare_volume(scan, make_recipe(spacing=4.0)).codes
    left, right = codes[:24], codes[:23:-1]
    # A chronic infarct is dark on T1w: the left half has more of it.
    dark = [((half > 0) & (half < 60)).sum() for half in (left, right)]
    assert dark[0] > dark[1]


def test_stripped_scans_on_one_grid_stay_there(sample_scans):
    from brainjax.volume.mask import foreground
    from brainjax.volume.register import align_scans
    from brainjax.volume.scan import read_scan

    fixed, moving = (
        read_scan(sample_scans / "brats_gli_00001" / f"00001_{name}.nii.gz")
        for name in ("t1n", "t2w")
    )
    inside = foreground(fixed.voxels)
    found = align_scans(
        fixed.voxels, fixed.affine, moving.voxels, moving.affine, inside=inside
    )
    corners = np.array(
        [[x, y, z, 1] for x in (-60, 60) for y in (-90, 70) for z in (0, 120)]
    )
    far = np.linalg.norm((corners @ found.matrix.T - corners)[:, :3], axis=1)
    assert far.max() < 2.5  # 6 to 9 mm, where the brain counted without a rim
