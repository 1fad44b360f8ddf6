"""What is kept beside a record is whole or absent, and the same bytes each time."""

import json
import os

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.records import kept as kept_module
from brainjax.records.kept import (
    is_kept,
    kept_path,
    read_kept_facts,
    read_kept_planes,
    read_reference,
    remove_others,
    write_kept,
)
from brainjax.records.sources import Source
from brainjax.volume.aligned import Kept
from brainjax.volume.planes import make_planes
from tests.conftest import write_scan
from tests.records.lying import contents, lay

GRID = np.diag([2.0, 2.0, 2.0, 1.0])


def make_kept(**facts) -> Kept:
    brain = np.zeros((12, 14, 10), bool)
    brain[3:9, 3:11, 2:8] = True
    voxels = np.random.default_rng(0).uniform(0, 9, brain.shape).astype(np.float32)
    to_scan = np.eye(4)
    to_scan[0, 3] = 5
    planes = make_planes(voxels, brain, (2.0, 2.0, 2.0))
    return Kept({"snr": 7.5, "doubts": [], **facts}, brain, GRID, to_scan, planes)


def test_what_is_kept_comes_back_in_the_same_bytes(tmp_path):
    kept = make_kept()
    for out in ("a", "b"):
        write_kept(tmp_path / out, "key", kept, 2 * np.eye(4))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    facts = read_kept_facts(tmp_path / "a", "key")
    assert facts["snr"] == 7.5
    assert facts["to_scan"] == kept.to_scan.tolist()
    assert facts["affine"] == (2 * np.eye(4)).tolist()
    path = kept_path(tmp_path / "a", "key") / "mask.nii.gz"
    mask = nib.Nifti1Image.from_filename(path)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), kept.brain)
    np.testing.assert_array_equal(mask.affine, GRID)
    planes = read_kept_planes(tmp_path / "a", "key")
    assert planes is not None
    np.testing.assert_array_equal(planes.images, kept.planes.images)


def test_killed_while_writing_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_module, "save_planes", fail)
    with pytest.raises(KeyboardInterrupt):
        write_kept(tmp_path, "key", make_kept(), np.eye(4))
    assert not is_kept(tmp_path, "key")
    assert read_kept_facts(tmp_path, "key") == {}
    assert read_kept_planes(tmp_path, "key") is None
    monkeypatch.undo()
    write_kept(tmp_path, "key", make_kept(), np.eye(4))
    remove_others(tmp_path, {"key"})  # as every call does in the end
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["key"]


def test_an_older_folder_is_replaced_whole(tmp_path):
    write_kept(tmp_path, "key", make_kept(snr=1.0), np.eye(4))
    (kept_path(tmp_path, "key") / "stray").touch()
    write_kept(tmp_path, "key", make_kept(snr=2.0), np.eye(4))
    assert read_kept_facts(tmp_path, "key")["snr"] == 2.0
    names = sorted(os.listdir(kept_path(tmp_path, "key")))
    assert names == ["facts.json", "mask.nii.gz", "planes.npz"]


def test_no_number_that_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_kept(tmp_path, "key", make_kept(snr=float("nan")), np.eye(4))
    assert not is_kept(tmp_path, "key")


@pytest.mark.parametrize("text", ["{", "", "\x00\x01", "\udcff"])
def test_damaged_facts_are_refused_in_one_line(text, tmp_path):
    write_kept(tmp_path, "key", make_kept(), np.eye(4))
    path = kept_path(tmp_path, "key") / "facts.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        InputRefusedError, match=r"wanted the facts of a scan"
    ) as caught:
        read_kept_facts(tmp_path, "key")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_others_and_halves_are_removed(tmp_path):
    for key in ("a", "b", "c.17.half"):
        write_kept(tmp_path, key, make_kept(), np.eye(4))
    remove_others(tmp_path, {"a"})
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["a"]


def test_a_reference_of_which_nothing_is_kept_is_refused(tmp_path):
    path = write_scan(tmp_path / "sub-1_T1w.nii.gz", seed=1)
    source = Source(str(path), "1", None, "T1w")
    with pytest.raises(InputRefusedError, match=r"wanted its brain and transform in"):
        read_reference(tmp_path, "key", source, None)
    lay([source], tmp_path / "out")
    (folder,) = (tmp_path / "out" / "kept").iterdir()
    reference = read_reference(tmp_path / "out", folder.name, source, None)
    assert reference.brain.shape == reference.voxels.shape
    assert reference.source == str(path)


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    source = Source(str(write_scan(tmp_path / "sub-1_T1w.nii.gz", seed=1)), "1")
    out = tmp_path / "out"
    lay([source], out)
    before = contents(out)
    (folder,) = (out / "kept").iterdir()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    lay([source], out)
    assert contents(out) == before
    assert json.loads((folder / "facts.json").read_text())["mask"] == "nonzero"
