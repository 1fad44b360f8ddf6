"""The files of a cohort: what they are, that they repeat, what is refused."""

import csv
import gzip
import hashlib
import importlib.util
import itertools
import json

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.phantom.anatomy import make_grid
from brainjax.records.sources import find_sources
from brainjax.volume.scan import read_scan

SCANS = [(s, q) for s in range(1, 5) for q in ("T1w", "T2w")]


def hashes(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def load(folder, subject, suffix):
    name = f"sub-{subject:04d}"
    return nib.load(folder / name / "anat" / f"{name}_{suffix}.nii.gz")


@pytest.mark.parametrize(("subject", "sequence"), SCANS)
def test_scans_are_sound_and_lie_on_their_labels(small, subject, sequence):
    scan, labels = load(small, subject, sequence), load(small, subject, "dseg")
    assert scan.get_data_dtype() in (np.int16, np.uint8)
    assert scan.header["sform_code"] == scan.header["qform_code"] == 1
    np.testing.assert_allclose(scan.get_qform(), scan.get_sform(), atol=1e-3)
    np.testing.assert_allclose(scan.header.get_zooms(), 6.0, atol=1e-5)
    assert min(np.multiply(scan.shape, scan.header.get_zooms())) >= 60
    np.testing.assert_allclose(scan.affine, labels.affine)
    np.testing.assert_array_equal(scan.get_fdata() > 0, labels.get_fdata() > 0)
    assert set(np.unique(labels.get_fdata())) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("head", [False, True])
def test_the_reader_takes_every_scan_and_no_label_map(
    small, tmp_path, make_cohort, head
):
    folder = make_cohort(tmp_path / "c", head=True).parent if head else small
    sources = find_sources([folder])
    assert len(sources) == (2 if head else 8)
    for source in sources:
        scan = read_scan(source.path)
        assert scan.voxels.shape == make_grid(6.0, head=head).shape
        assert source.sequence in ("T1w", "T2w")


@pytest.mark.parametrize("subject", [1, 2, 3, 4])
def test_front_is_front_and_left_is_marked_by_the_affine(small, subject):
    labels = nib.as_closest_canonical(load(small, subject, "dseg"))
    values = labels.get_fdata()
    _, y, z = (np.argwhere(values == 4) @ labels.affine[:3, :3].T).mean(0)
    _, front, top = (np.argwhere(values > 0) @ labels.affine[:3, :3].T).mean(0)
    # Lateral ventricles lie in front of, and above, the middle of the whole brain.
    assert y > front
    assert z > top


def test_orientations_differ_between_subjects(small):
    codes = {nib.aff2axcodes(load(small, s, "T1w").affine) for s in range(1, 5)}
    assert len(codes) > 1


def test_tables_agree_with_the_folder(small):
    lines = (small / "participants.tsv").read_text().splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == [
        p.name for p in sorted(small.glob("sub-*"))
    ]
    assert all(20 <= float(row["age"]) <= 90 for row in rows)
    assert all(row["sex"] in "FM" for row in rows)
    truth = json.loads((small / "truth.json").read_text())
    assert set(truth["targets"]) == {"age", "sex", "sequence"}
    assert "never clinical evidence" in (small / "README").read_text()


def test_workers_do_not_change_a_byte(small, tmp_path, make_cohort):
    make_cohort(tmp_path / "b", subjects=4, sequences=("T1w", "T2w"), workers=2)
    assert hashes(small) == hashes(tmp_path / "b")


def test_another_seed_gives_other_scans(small, tmp_path, make_cohort):
    make_cohort(tmp_path / "b", subjects=1, seed=1)
    name = "sub-0001/anat/sub-0001_T1w.nii.gz"
    assert hashes(small)[name] != hashes(tmp_path / "b")[name]


def test_a_stopped_run_goes_on_where_it_was(small, tmp_path, make_cohort):
    out = tmp_path / "b"
    make_cohort(out, subjects=2)
    kept = out / "sub-0001/anat/sub-0001_phantom.json"
    before = kept.stat().st_mtime_ns
    (out / "sub-0002/anat/sub-0002_T1w.nii.gz").unlink()
    make_cohort(out, subjects=3)
    assert kept.stat().st_mtime_ns == before
    # More sequences of the same anatomy are added: as if made at once.
    make_cohort(out, subjects=4, sequences=("T1w", "T2w"))
    assert hashes(out) == hashes(small)


def test_a_folder_of_another_cohort_is_refused(small, make_cohort):
    with pytest.raises(InputRefusedError, match=r"'seed': 7.* holds .*'seed': 0"):
        make_cohort(small, seed=7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": 0}, "subjects: wanted at least 1, got 0"),
        ({"subjects": 1.5}, "subjects: wanted at least 1, got 1.5"),
        ({"workers": 0}, "workers: wanted at least 1, got 0"),
        ({"seed": -1}, "seed: wanted 0 to .*, got -1"),
        ({"spacing": 0.1}, "spacing: wanted 0.8 to 8.0 mm, got 0.1"),
        ({"spacing": float("nan")}, "spacing: wanted .*, got nan"),
        ({"sequences": ("PD",)}, "sequences: wanted some of T1w.*got PD"),
        ({"sequences": ()}, "sequences: .* got none"),
        ({"sequences": ("T1w", "T1w")}, "sequences: .*each once.* got T1w, T1w"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path, make_cohort, options, message
):
    with pytest.raises(InputRefusedError, match=message):
        make_cohort(tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()


def test_a_file_where_the_folder_should_be_is_refused(tmp_path, make_cohort):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputRefusedError, match="wanted a folder to write in"):
        make_cohort(tmp_path / "file")


def test_without_nilearn_the_extra_is_named(tmp_path, make_cohort, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "nilearn" else find(n)
    )
    with pytest.raises(MissingExtraError, match=r"brainjax\[phantom\]"):
        make_cohort(tmp_path / "c")


def test_all_48_orientations_show_the_same_brain():
    from brainjax.phantom.fields import Grid
    from brainjax.phantom.store import Placement, encode

    values = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    grid = Grid((3, 4, 5), (-10.0, 4.0, 7.0), 2.0)
    codes = set()
    for axes in itertools.permutations((0, 1, 2)):
        for flips in itertools.product((False, True), repeat=3):
            raw = encode(values, grid, Placement(axes, flips, (1.0, 2.0, 3.0)))
            image = nib.Nifti1Image.from_bytes(gzip.decompress(raw))
            codes.add(nib.aff2axcodes(image.affine))
            turned = nib.as_closest_canonical(image)
            np.testing.assert_array_equal(turned.get_fdata(), values)
            np.testing.assert_allclose(turned.affine[:3, 3], (-9, 6, 10), atol=1e-5)
    assert len(codes) == 48
    assert sum(c[0] in "RL" for c in codes) == 16
