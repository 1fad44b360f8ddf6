"""A DICOM series gives the volume that a NIfTI file of the same scan gives."""

import shutil
import subprocess

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from brainjax.errors import MissingExtraError
from brainjax.volume.dicom import digest_source, read_series
from brainjax.volume.scan import read_as_stored, read_scan
from tests.volume import scans
from tests.volume.dicoms import (
    NAME,
    identify,
    make_multiframe,
    make_slices,
    oblique,
    save,
    save_all,
    write_series,
)

BODY = scans.body()
OBLIQUE = oblique(scans.affine())
SHEARED = OBLIQUE.copy()
SHEARED[:3, 2] += 0.3 * OBLIQUE[:3, 1]
SAGITTAL = OBLIQUE[:, [1, 2, 0, 3]]


def assert_same(series, tmp_path, voxels=BODY, affine=OBLIQUE):
    """The series is the NIfTI file of these voxels; gives its provenance."""
    wanted = read_scan(scans.write(tmp_path / "same.nii", voxels, affine))
    found = read_scan(series)
    np.testing.assert_array_equal(found.voxels, wanted.voxels)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-4)
    return found.provenance


@pytest.mark.parametrize(
    ("order", "affine"),
    {
        "axial": ((0, 1, 2), scans.affine()),
        "oblique": ((0, 1, 2), OBLIQUE),
        "tilted gantry": ((0, 1, 2), SHEARED),
        "sagittal": ((1, 2, 0), SAGITTAL),
    }.values(),
)
def test_any_plane_tilt_and_order_of_files(order, affine, tmp_path):
    voxels = BODY.transpose(order)
    series = write_series(tmp_path / "in", voxels, affine)
    facts = assert_same(series, tmp_path, voxels, affine)["dicom"]
    assert (facts["shear_degrees"] > 1) == (affine is SHEARED)


def test_slices_counted_from_the_top_give_the_same(tmp_path):
    flipped = OBLIQUE @ np.diag([1.0, 1.0, -1.0, 1.0])
    flipped[:3, 3] = (OBLIQUE @ [0, 0, BODY.shape[2] - 1, 1])[:3]
    series = write_series(tmp_path / "in", BODY[:, :, ::-1], flipped)
    assert_same(series, tmp_path)


def test_names_of_files_do_not_count(tmp_path):
    slices = make_slices(BODY, OBLIQUE)
    one = save_all(slices, tmp_path / "one")
    for number, data in enumerate(slices):
        save(data, tmp_path / "other" / "deep" / f"{number}.dcm")
    found = [read_scan(folder).provenance for folder in (one, tmp_path / "other")]
    assert found[0].pop("source") != found[1].pop("source")
    assert found[0] == found[1]
    assert digest_source(one) == found[0]["sha256"]
    save(slices[3], one / "IM9999")
    assert digest_source(one) != found[0]["sha256"]


def test_slopes_of_each_slice_are_applied(tmp_path):
    slices = make_slices(BODY, OBLIQUE)
    for k, data in enumerate(slices):
        data.RescaleSlope, data.RescaleIntercept = str(1 + 0.125 * k), "-3"
    series = save_all(slices, tmp_path / "in")
    wanted = BODY * (1 + 0.125 * np.arange(BODY.shape[2])) - 3
    facts = assert_same(series, tmp_path, wanted.astype(np.float32))
    assert facts["dtype"] == "float32"


def test_as_stored_is_columns_rows_slices(tmp_path):
    series = write_series(tmp_path / "in", BODY, OBLIQUE)
    assert read_series(series).stored.dtype == np.int16
    np.testing.assert_array_equal(read_as_stored(series).voxels, BODY)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_where_white_is_zero_it_is_turned_round(kind, tmp_path):
    top = 65535 if kind is np.uint16 else -1
    inverse = (top - BODY.astype(np.int64)).astype(kind)
    light = {"PhotometricInterpretation": "MONOCHROME1"}
    series = write_series(tmp_path / "in", inverse, OBLIQUE, **light)
    assert_same(series, tmp_path)


def test_copies_of_slices_are_dropped_and_counted(tmp_path):
    slices = make_slices(BODY, OBLIQUE)
    copy = make_slices(BODY, OBLIQUE, SOPInstanceUID="1.2.3", AcquisitionNumber=2)[9]
    series = save_all([*slices, copy, slices[4]], tmp_path / "in")
    facts = assert_same(series, tmp_path)["dicom"]
    assert (facts["copies_dropped"], facts["slices_filled"]) == (2, 0)


def test_missing_slices_are_filled_and_counted(tmp_path):
    ramp = np.broadcast_to(np.arange(28) * 10, BODY.shape).astype(np.int16)
    slices = make_slices(ramp, SHEARED)
    for k in (13, 12):
        del slices[k]
    series = save_all(slices, tmp_path / "in")
    facts = assert_same(series, tmp_path, ramp, SHEARED)["dicom"]
    assert facts["slices_filled"] == 2


def test_frames_of_one_file(tmp_path):
    save(make_multiframe(BODY, SHEARED), tmp_path / "in" / "scan.dcm")
    for name in (tmp_path / "in", tmp_path / "in" / "scan.dcm"):
        assert_same(name, tmp_path, 2.0 * BODY, SHEARED)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_slices(syntax, tmp_path):
    if syntax is JPEG2000Lossless:
        pytest.importorskip("openjpeg", reason="no JPEG 2000 encoder is installed")
    voxels = np.pad(BODY, ((5, 5), (4, 4), (0, 0)))  # J2K encoders want 32 pixels
    slices = make_slices(voxels, OBLIQUE)
    for data in slices:
        data.compress(syntax, generate_instance_uid=False)
    assert_same(save_all(slices, tmp_path / "in"), tmp_path, voxels)


def test_lossless_jpeg_slices(tmp_path):
    gdcm = pytest.importorskip("gdcm", reason="no lossless JPEG encoder is installed")
    series = write_series(tmp_path / "in")
    for file in series.iterdir():
        reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(
            gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1)
        )
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(file))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert_same(series, tmp_path, BODY, scans.affine())


def test_without_a_decoder_the_extra_is_named(tmp_path, monkeypatch):
    from pydicom.pixels.decoders import base

    series = write_series(tmp_path / "in")
    file = sorted(series.iterdir())[0]
    monkeypatch.setattr(base.Decoder, "is_available", property(lambda _: False))
    slices = make_slices(BODY, OBLIQUE)
    for data in slices:
        data.compress(RLELossless, generate_instance_uid=False)
    series = save_all(slices, tmp_path / "in")
    with pytest.raises(MissingExtraError, match=r"IM.*RLE.*brainjax\[compressed\]"):
        read_scan(file.parent)


def test_without_a_file_header(tmp_path):
    for number, data in enumerate(make_slices(BODY, OBLIQUE)):
        path = tmp_path / "in" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        del data.file_meta
        data.preamble = None
        data.save_as(path, implicit_vr=True, little_endian=True)
    assert_same(tmp_path / "in", tmp_path)


def test_no_name_goes_further(tmp_path, caplog, capfd):
    slices = [identify(data) for data in make_slices(BODY, OBLIQUE)]
    scan = read_scan(save_all(slices, tmp_path / "in"))
    assert NAME in slices[0].SeriesDescription
    said = "".join([repr(scan.provenance), caplog.text, *capfd.readouterr()])
    assert NAME.lower() not in said.lower()
    assert "1.2.826" not in said  # nor any UID
    assert scan.provenance["dicom"]["manufacturer"] == "other"


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed")
def test_the_same_as_dcm2niix(tmp_path):
    series, out = write_series(tmp_path / "in", BODY, OBLIQUE), tmp_path / "out"
    out.mkdir()
    words = ["dcm2niix", "-b", "n", "-z", "n", "-f", "scan", "-o", out, series]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    found, wanted = read_scan(series), read_scan(out / "scan.nii")
    np.testing.assert_array_equal(found.voxels, wanted.voxels)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-3)


def test_a_real_head_oblique_shuffled_and_with_a_copy(sample_scans, tmp_path):
    whole = read_as_stored(sample_scans / "wholehead" / "S1_T1w.nii.gz")
    voxels = whole.voxels[::4, ::4, ::4].astype(np.int16)
    affine = oblique(whole.affine @ np.diag([4.0, 4.0, 4.0, 1.0]))
    slices = [identify(data) for data in make_slices(voxels, affine)]
    series = save_all([*slices, slices[20]], tmp_path / "in")
    assert assert_same(series, tmp_path, voxels, affine)["dicom"]["copies_dropped"] == 1
