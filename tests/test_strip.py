"""`brainjax strip`: the brain in the file's own geometry, bit for bit; nothing else."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)

from brainjax.cli import main
from brainjax.errors import InputRefusedError
from brainjax.records import strip as module
from brainjax.records.strip import output_names, strip
from brainjax.volume import brain_own
from tests.volume.pointwise import affine, brain, head, write_weights
from tests.volume.scans import write


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Weights that know bright voxels in the place of those that ship."""
    path = write_weights(tmp_path / "weights" / "brain_mask.safetensors")
    monkeypatch.setattr(brain_own, "WEIGHTS", path)
    return path


def turned(letters: str, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives an array of the head's grid stored another way, and its affine."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(letters)))
    return apply_orientation(array, turn), affine() @ inv_ornt_aff(turn, head().shape)


def stripped(scan: Path, out: Path) -> tuple[nib.Nifti1Image, np.ndarray]:
    """Strips a scan; gives the brain's image and the mask."""
    assert strip([scan], out, backend="own") == []
    name = scan.name.removesuffix(".nii.gz")
    mask = nib.load(out / f"{name}_mask.nii.gz")
    image = nib.load(out / f"{name}_brain.nii.gz")
    for found in (image, mask):
        assert found.shape == nib.load(scan).shape
        np.testing.assert_array_equal(found.affine, nib.load(scan).affine)
    return image, np.asarray(mask.dataobj) > 0


@pytest.mark.parametrize("letters", ["RAS", "LAS", "PSL", "IRP"])
def test_brain_and_mask_lie_where_the_file_lies(letters, tmp_path):
    voxels, matrix = turned(letters, head())
    scan = write(tmp_path / "sub-1_T1w.nii.gz", voxels, matrix, descrip=b"kept")
    image, mask = stripped(scan, tmp_path / "out")
    truth = turned(letters, brain())[0]
    # It is nearer to the right: of its mirror image this would be 0.85.
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    np.testing.assert_array_equal(image.dataobj, np.where(mask, voxels, 0))
    assert image.get_data_dtype() == voxels.dtype
    assert image.header["descrip"] == nib.load(scan).header["descrip"]


def test_stored_values_and_their_scaling_are_copied(tmp_path):
    image = nib.Nifti1Image(head(), affine())
    image.header.set_slope_inter(0.5, -100.0)
    content = bytearray(image.header.binaryblock + b"\0" * 4)
    content += head().tobytes(order="F")
    content[108:112] = np.float32(352).tobytes()  # vox_offset
    content[344:348] = b"n+1\0"
    scan = tmp_path / "scaled.nii"
    scan.write_bytes(bytes(content))
    assert strip([scan], tmp_path / "out", backend="own") == []
    found = nib.load(tmp_path / "out" / "scaled_brain.nii.gz")
    mask = np.asarray(nib.load(tmp_path / "out" / "scaled_mask.nii.gz").dataobj) > 0
    unscaled = np.asarray(found.dataobj.get_unscaled())
    np.testing.assert_array_equal(unscaled, np.where(mask, head(), 200))  # stands for 0
    np.testing.assert_allclose(
        found.get_fdata(), np.where(mask, 0.5 * head() - 100, 0), atol=1e-4
    )


def test_what_cannot_store_a_zero_becomes_float(tmp_path):
    image = nib.Nifti1Image((head() // 2).astype(np.uint8), affine())
    scan = tmp_path / "offset.nii"
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([1.0, 7.0], np.float32).tobytes()  # slope, intercept
    scan.write_bytes(bytes(content))
    assert strip([scan], tmp_path / "out", backend="own") == []
    found = nib.load(tmp_path / "out" / "offset_brain.nii.gz")
    assert found.get_data_dtype() == np.float32
    mask = np.asarray(nib.load(tmp_path / "out" / "offset_mask.nii.gz").dataobj) > 0
    np.testing.assert_array_equal(found.get_fdata(), np.where(mask, head() // 2 + 7, 0))


def test_the_same_scan_gives_the_same_bytes(tmp_path):
    scan = write(tmp_path / "a.nii.gz", head(), affine())
    for out in ("one", "two"):
        assert strip([scan], tmp_path / out, backend="own") == []
    for name in ("a_brain.nii.gz", "a_mask.nii.gz"):
        found = [(tmp_path / out / name).read_bytes() for out in ("one", "two")]
        assert found[0] == found[1]


def test_a_series_is_stripped_on_its_own_grid(tmp_path):
    dicoms = pytest.importorskip("tests.volume.dicoms")
    folder = tmp_path / "series"
    dicoms.write_series(folder, head(), affine())
    assert strip([folder], tmp_path / "out", backend="own") == []
    (file,) = (tmp_path / "out").glob("*_mask.nii.gz")
    mask = nib.load(file)
    right = mask.affine @ [*np.argwhere(np.asarray(mask.dataobj) > 0).mean(0), 1]
    truth = affine() @ [*np.argwhere(brain()).mean(0), 1]
    np.testing.assert_allclose(right, truth, atol=0.5)


def test_one_bad_scan_does_not_hold_up_the_others(tmp_path, capsys):
    good = write(tmp_path / "in" / "good.nii.gz", head(), affine())
    bad = tmp_path / "in" / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    out = tmp_path / "out"
    words = ["strip", str(good), str(bad), "--out", str(out), "--mask", "own"]
    assert main(words) == 2
    said = capsys.readouterr()
    mask = nib.load(out / "good_mask.nii.gz")
    ml = np.count_nonzero(mask.dataobj) * 4.5**3 / 1000
    assert f"good_brain.nii.gz: {ml:.1f} ml by own" in said.out
    assert "1 scan was refused" in said.err
    assert "bad.nii.gz: wanted a gzip stream" in said.err
    assert sorted(p.name for p in out.iterdir()) == [
        "good_brain.nii.gz",
        "good_mask.nii.gz",
    ]
    assert main(words[:2] + words[3:]) == 0


def test_an_odd_error_of_one_scan_is_listed_and_the_others_are_stripped(
    tmp_path, monkeypatch
):
    def odd(path, out, name, backend, orientation):
        if name == "odd":
            raise ValueError("no such\n header")
        return name

    for name in ("odd", "good"):
        (tmp_path / f"{name}.nii").touch()
    monkeypatch.setattr(module, "strip_scan", odd)
    told, out = [], tmp_path / "out"
    ((path, reason),) = strip([tmp_path], out, backend="own", tell=told.append)
    assert (Path(path).name, told) == ("odd.nii", ["good"])
    assert reason == "ValueError: no such header"
    with pytest.raises(InputRefusedError, match=r"odd.nii.out: wanted a folder"):
        strip([tmp_path], tmp_path / "odd.nii" / "out", backend="own")


def test_a_file_that_cannot_be_written_is_listed_and_none_is_left_half(
    tmp_path, monkeypatch
):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("brainjax.records.writing.write_atomically", full)
    scan = write(tmp_path / "a.nii.gz", head(), affine())
    ((_, reason),) = strip([scan], tmp_path / "out", backend="own")
    assert reason.endswith(
        "a_brain.nii.gz: wanted a file to write, got No space left on device"
    )
    assert not list((tmp_path / "out").iterdir())


def test_a_back_end_that_is_none_is_refused_before_any_scan(tmp_path, own, capsys):
    scan = write(tmp_path / "a.nii.gz", head(), affine())
    words = ["strip", str(scan), "--out", str(tmp_path / "out"), "--mask"]
    assert main([*words, "bet"]) == 2
    assert "mask: wanted one of auto, template" in capsys.readouterr().err
    own.unlink()
    assert main([*words, "own"]) == 2
    assert "wanted the weights of 'own'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scans_of_one_name_are_told_apart_by_their_folders():
    paths = ["/s/a/T1.nii.gz", "/s/b/T1.nii.gz", "/s/b/T2.nii", "/s/c::0a1b2c3d"]
    assert output_names(paths) == ["s_a_T1", "s_b_T1", "T2", "c_0a1b2c3d"]
    with pytest.raises(InputRefusedError, match="wanted one scan a_b_T1, got two"):
        output_names(["/a/b/T1.nii", "/a/b/T1.nii.gz"])
