"""Every kind of bad scan gets one line that names the file, the wish and the find."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume import make_recipe, prepare_volume
from tests.volume.scans import SPACING, affine, body, write

RECIPE = make_recipe(spacing=8.0)


def filled(value: float) -> np.ndarray:
    """The body as floats, with one bad voxel in it."""
    voxels = body().astype(np.float32)
    voxels[15, 15, 15] = value
    return voxels


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def cut(path: Path) -> Path:
    """A file that a broken transfer left behind."""
    content = write(path).read_bytes()
    return raw(path, content[: len(content) // 2])


def flipped_byte(path: Path) -> Path:
    content = bytearray(write(path).read_bytes())
    content[len(content) // 2] ^= 0xFF
    return raw(path, bytes(content))


def scaled(factor: float) -> np.ndarray:
    return np.diag([factor, factor, factor, 1.0])


def singular(path: Path) -> Path:
    """The first row of the sform is zero: x goes nowhere."""
    content = bytearray(gzip.decompress(write(path).read_bytes()))
    content[280:296] = bytes(16)
    return raw(path, gzip.compress(bytes(content)))


def mirrored(path: Path) -> Path:
    """The sform says one side is left, the qform the other."""
    other = affine()
    other[0] *= -1
    return write(path, qform=other, qform_code=1)


def coloured(path: Path) -> Path:
    rgb = np.zeros((30, 36, 28), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, affine()), path)
    return path


def huge(path: Path) -> Path:
    """A header that declares 32,000 cubed voxels, and no voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"][:4] = [3, 32000, 32000, 32000]
    header["magic"], header["vox_offset"] = b"n+1", 352
    return raw(path, gzip.compress(header.binaryblock + b"\0" * 4))


BAD = {
    "missing": (lambda p: p, "wanted a file, got no such file"),
    "folder": (lambda p: (p.mkdir(), p)[1], "wanted a file, got a folder"),
    "empty": (lambda p: raw(p, b""), "got an empty file"),
    "truncated": (cut, "truncated"),
    "flipped byte": (flipped_byte, "damaged gzip stream|truncated"),
    "not gzip": (lambda p: raw(p, b"hello, world" * 99), "wanted a gzip stream"),
    "not NIfTI": (lambda p: raw(p, gzip.compress(b"x" * 999)), "single-file NIfTI"),
    "hostile pickle": (
        lambda p: raw(p, gzip.compress(b"cos\nsystem\n(S'true'\ntR." * 40)),
        "single-file NIfTI",
    ),
    "declared size": (huge, "wanted at most 1073741824 voxels"),
    "four frames": (
        lambda p: write(p, np.stack([body()] * 4, -1)),
        "one 3D volume, got 4 frames",
    ),
    "2D": (lambda p: write(p, body()[:, :, 14]), "wanted one 3D volume, got 2D"),
    "NaN": (lambda p: write(p, filled(np.nan)), "wanted finite values, got 1 NaN"),
    "infinite": (lambda p: write(p, filled(np.inf)), "0 NaN and 1 infinite"),
    "constant": (lambda p: write(p, body() * 0 + 7), "got the constant 7"),
    "nothing in it": (
        lambda p: write(p, (body() > 899).astype(np.int16)),
        "wanted a brain of 100-12000 ml",
    ),
    "one grey value": (
        lambda p: write(p, (body() > 0).astype(np.int16)),
        "wanted contrast inside the mask",
    ),
    "singular affine": (singular, "wanted an invertible affine"),
    "tiny spacing": (
        lambda p: write(p, matrix=scaled(0.01)),
        "wanted a spacing of 0.2-10.0 mm, got",
    ),
    "huge spacing": (
        lambda p: write(p, matrix=scaled(50)),
        "wanted a spacing of 0.2-10.0 mm, got",
    ),
    "too few voxels": (
        lambda p: write(p, body()[:, :, :5]),
        "wanted at least 8 voxels",
    ),
    "too small": (
        lambda p: write(p, matrix=scaled(0.5)),
        "wanted an extent of 60-600 mm",
    ),
    "no orientation": (
        lambda p: write(p, sform_code=0),
        "wanted an orientation, got sform_code 0 and qform_code 0",
    ),
    "left and right": (mirrored, "disagree on left and right"),
    "colour": (coloured, "wanted real grey values, got colour"),
    "complex": (
        lambda p: write(p, body().astype(np.complex64)),
        "wanted real grey values, got complex64",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_is_refused_in_one_line(kind, tmp_path):
    make, wanted = BAD[kind]
    path = make(tmp_path / "scan.nii.gz")
    with pytest.raises(InputRefusedError, match=wanted) as refused:
        prepare_volume(path, RECIPE)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_another_format_is_refused_by_its_name(tmp_path):
    path = raw(tmp_path / "scan.mgz", b"anything")
    with pytest.raises(InputRefusedError, match=r"wanted a .nii or .nii.gz file"):
        prepare_volume(path, RECIPE)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "scan.nii.gz")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputRefusedError, match="readable file, got Permission denied"):
        prepare_volume(path, RECIPE)


def test_a_mask_from_elsewhere_is_refused(tmp_path):
    scan = write(tmp_path / "scan.nii.gz")
    moved = affine()
    moved[0, 3] += 10
    mask = write(tmp_path / "mask.nii.gz", matrix=moved)
    with pytest.raises(InputRefusedError, match="wanted a mask on the grid of"):
        prepare_volume(scan, RECIPE, mask_path=mask)


def test_a_stated_orientation_serves_only_files_without_one(tmp_path):
    silent = write(
        tmp_path / "silent.nii.gz", sform_code=0, pixdim=[1, *SPACING, 1, 1, 1, 1]
    )
    told = prepare_volume(silent, RECIPE, orientation="LAS")
    plain = prepare_volume(write(tmp_path / "plain.nii.gz"), RECIPE, orientation="LAS")
    assert np.array_equal(told.codes, plain.codes[::-1])
    with pytest.raises(InputRefusedError, match="wanted three letters"):
        prepare_volume(silent, RECIPE, orientation="XYZ")
