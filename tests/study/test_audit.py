"""An audit finds every leak that was put in, and none in a clean run."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainjax.cli import main
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.records.store import open_dataset
from brainjax.study.audit import audit_run, open_run
from brainjax.study.duplicates import Scans, near_twins, same_voxels
from brainjax.train.scans import split_scans
from brainjax.volume.recipe import make_recipe

SPLIT = {"seed": 0, "val": 0.2, "test": 0.25}


def make_run(folder: Path, data: Path, **config) -> Path:
    """The folder of a run that learnt nothing: an audit reads its config."""
    folder.mkdir(parents=True)
    where = {"path": str(data), "sequences": config.pop("sequences", [])}
    made = {"kind": "finetune", "data": where, "split": SPLIT, "init": ""}
    made["task"] = {"name": "regression", "target": "age"}
    (folder / "config.json").write_text(json.dumps(made | config))
    return folder


@pytest.fixture(scope="module")
def copied(tiny_cohort, tmp_path_factory) -> Path:
    """The tiny cohort with a tested scan once more as another subject, and noisy."""
    home = tmp_path_factory.mktemp("copied")
    shutil.copytree(tiny_cohort, home / "scans")
    first = home / "scans" / "sub-03_T1w.nii.gz"
    shutil.copy(first, home / "scans" / "sub-copy_T1w.nii.gz")
    image = nib.load(first)
    voxels = np.asarray(image.dataobj).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 8, voxels.shape)
    noisy = np.where(voxels > 0, np.clip(1.3 * voxels + noise, 1, None), 0)
    other = nib.Nifti1Image(noisy.astype(np.int16), image.affine)
    nib.save(other, home / "scans" / "sub-noisy_T1w.nii.gz")
    labels = home / "scans" / "participants.tsv"
    text = "participant_id\tage\tsex\tsite\n"
    for line in labels.read_text().splitlines()[1:]:
        text += f"{line}\t{'A' if line.endswith('F') else 'B'}\n"
    labels.write_text(text + "sub-copy\t36\tF\tA\nsub-noisy\t36\tF\tA\n")
    sources = find_sources([home / "scans"])
    recipe = make_recipe(spacing=8.0)
    prepare(sources, home / "data", recipe, labels=labels, progress=False)
    return home / "data"


def leaks(run: Path) -> dict[str, str]:
    return {f.what: f.text for f in audit_run(run) if f.leak}


def test_a_clean_run_is_clean(tiny_prepared, tmp_path, capsys):
    run = make_run(tmp_path / "run", tiny_prepared)
    assert not leaks(run)
    assert main(["audit", str(run)]) == 0
    said = capsys.readouterr().out
    assert "no leak found" in said
    assert said.count("clean") >= 4


def test_a_scan_under_two_names_is_found_and_so_is_its_noisy_copy(copied):
    dataset = open_dataset(copied)
    place = {row["subject"]: i for i, row in enumerate(dataset.rows)}
    rest = [i for name, i in place.items() if name not in ("03", "copy", "noisy")]
    tested = Scans(dataset, [place["03"]])
    learnt = Scans(dataset, [place["copy"], place["noisy"], *rest])
    assert [t.learnt["subject"] for t in same_voxels(tested, learnt)] == ["copy"]
    assert [t.learnt["subject"] for t in near_twins(tested, learnt)] == ["noisy"]


def test_leaks_of_a_run_are_a_line_each_and_exit_code_2(copied, tmp_path, capsys):
    dataset = open_dataset(copied)
    seed = next(
        seed
        for seed in range(200)
        if {"03"} & names(dataset, split_scans(dataset, **{**SPLIT, "seed": seed}).test)
        and {"copy", "noisy"}
        <= names(dataset, split_scans(dataset, **{**SPLIT, "seed": seed}).train)
    )
    run = make_run(
        tmp_path / "run",
        copied,
        split={**SPLIT, "seed": seed},
        task={"name": "classification", "target": "sex"},
    )
    found = leaks(run)
    assert set(found) == {
        "same voxels under two names",
        "nearly the same voxels under two names",
        "sex by site",
    }
    assert "sub-03_T1w.nii.gz is" in found["same voxels under two names"]
    assert "Cramér's V 1.00" in found["sex by site"]
    assert main(["audit", str(run)]) == 2
    assert capsys.readouterr().out.count("LEAK") == 3


def names(dataset, indices) -> set[str]:
    return {dataset.rows[int(i)]["subject"] for i in indices}


def test_subjects_shared_with_pretraining_are_found(tiny_prepared, tmp_path):
    # Pretrained with another split: some who are tested were learnt from.
    donor = make_run(tmp_path / "donor", tiny_prepared, split={**SPLIT, "seed": 5})
    run = make_run(tmp_path / "run", tiny_prepared, init=str(donor))
    assert "subjects in test and in pretraining" in leaks(run)
    scratch = make_run(
        tmp_path / "scratch", tiny_prepared, init=str(donor), weights="random"
    )
    assert not leaks(scratch)


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["audit", str(tmp_path)]) == 2
    assert "wanted a run's file" in capsys.readouterr().err


def test_a_run_on_cases_is_audited_by_the_scans_of_its_cases(tiny_prepared, tmp_path):
    run = make_run(tmp_path / "run", tiny_prepared, sequences=["T1w"])
    assert not leaks(run)
    opened, plain = open_run(run), open_run(make_run(tmp_path / "plain", tiny_prepared))
    for ours, theirs in zip(opened.split, plain.split, strict=True):
        np.testing.assert_array_equal(np.sort(ours), theirs)
