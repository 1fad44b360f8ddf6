"""A series that is no volume is refused in one line that names what is wrong."""

import contextlib
import shutil

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume.dicom import digest_source, read_series
from brainjax.volume.scan import read_scan
from tests.volume import scans
from tests.volume.dicoms import (
    add_pixels,
    make_multiframe,
    make_slices,
    save,
    save_all,
    write_series,
)

AFFINE = scans.affine()


def cut(file, share):
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])


def without(elements, *keywords):
    for keyword in keywords:
        delattr(elements, keyword)


def moved(slices, k, mm, axis=2):
    place = [float(v) for v in slices[k].ImagePositionPatient]
    place[axis] += mm
    slices[k].ImagePositionPatient = [str(round(v, 6)) for v in place]


def coloured(slices):
    slices[0].SamplesPerPixel, slices[0].PhotometricInterpretation = 3, "RGB"


def another(slices):
    """A second image where the tenth slice lies."""
    twin = make_slices(scans.body(), AFFINE)[9]
    twin.SOPInstanceUID = "1.2.3"
    add_pixels(twin, np.full((36, 30), 7, np.int16))
    slices.append(twin)


CHANGES = {
    "7 slices": (lambda s: s.__delitem__(slice(7, 28)), "wanted at least 8 slices"),
    "3 missing in a row": (
        lambda s: s.__delitem__(slice(9, 12)),
        r"wanted 28 slices, got 25: missing between -12 and 12 mm",
    ),
    "too many missing": (
        lambda s: [s.__delitem__(k) for k in (24, 18, 12, 6)],
        "wanted 28 slices, got 24: missing between .*, ... mm",
    ),
    "uneven": (
        lambda s: moved(s, 11, 1.5),
        "wanted slices 6 mm apart, got 7.5 mm between 0 and 7.5 mm",
    ),
    "beside the line": (
        lambda s: moved(s, 11, 9.0, axis=0),
        "wanted .* along one line",
    ),
    "two images": (another, "wanted one image at a place, got two that differ: .*IM"),
    "colour": (coloured, r"IM\d+: wanted real grey values, got colour \(RGB\)"),
    "no position": (
        lambda s: without(s[4], "ImagePositionPatient"),
        r"IM\d+: wanted 3 numbers in ImagePositionPatient, got none",
    ),
    "no spacing": (
        lambda s: without(s[4], "PixelSpacing"),
        r"IM\d+: wanted 2 numbers in PixelSpacing, got none",
    ),
    "no direction": (
        lambda s: setattr(s[4], "ImageOrientationPatient", ["0"] * 6),
        r"IM\d+: wanted two perpendicular directions",
    ),
    "no rows": (lambda s: without(s[4], "Rows"), r"IM\d+: wanted rows and columns"),
    "no pixels": (lambda s: without(s[4], "PixelData"), r"IM\d+: wanted pixels, got"),
    "huge": (
        lambda s: [setattr(s[4], name, 65535) for name in ("Rows", "Columns")],
        r"IM\d+: wanted at most 1073741824 voxels, got 65535x65535x1",
    ),
    "CT": (lambda s: [setattr(d, "Modality", "CT") for d in s], "wanted .* MR.*got CT"),
    "PET": (
        lambda s: [setattr(d, "Modality", "PT") for d in s],
        "wanted .* MR.*got PT",
    ),
    "too small": (
        lambda s: [setattr(d, "PixelSpacing", ["0.5", "0.5"]) for d in s],
        "wanted an extent of 60-600 mm",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_is_no_volume_is_refused(change, message, tmp_path):
    slices = make_slices(scans.body(), AFFINE)
    change(slices)
    folder = save_all(slices, tmp_path / "in")
    with pytest.raises(InputRefusedError, match=message) as caught:
        read_scan(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.35, 0.6, 0.99])
def test_one_damaged_file_is_named(share, tmp_path):
    series = write_series(tmp_path / "in")
    file = series / "IM0011"
    whole = file.read_bytes()
    cut(file, share)
    if len(file.read_bytes()) < 132:  # no longer anything that says DICOM
        file.write_bytes(whole[:200])
    with pytest.raises(InputRefusedError, match="IM0011: ") as caught:
        read_series(series)
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_of_a_header_is_no_failure_of_ours(tmp_path):
    thick = AFFINE @ np.diag([1.0, 1.0, 3.0, 1.0])
    series = write_series(tmp_path / "in", scans.body()[:, :, ::3], thick)
    file = series / "IM0003"
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(132, 1000, 12):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        file.write_bytes(bytes(broken))
        with contextlib.suppress(InputRefusedError):
            read_series(series)


def test_what_is_no_dicom_is_passed_over(tmp_path):
    series = write_series(tmp_path / "in")
    wanted = read_series(series)
    for name, content in {
        "notes.txt": b"DICM",
        "IM9998": b"",
        ".IM9999": b"\0" * 128 + b"DICM",
        "text": b"x" * 500,
        "DICOMDIR.html": b"<html>",
        "start": b"\x08\0\x05\0" * 99,
    }.items():
        (series / name).write_bytes(content)
    report = make_slices(scans.body(), AFFINE)[0]
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, series / "report")
    capture = make_slices(scans.body(), AFFINE)[0]
    capture.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    without(capture, "ImagePositionPatient")
    save(capture, series / "capture")
    mute = make_slices(scans.body(), AFFINE)[0]
    mute.SOPClassUID = capture.SOPClassUID
    without(mute, "SeriesInstanceUID")
    save(mute, series / "mute")
    assert read_series(series).sha256 == wanted.sha256


def test_frames_without_a_place_are_refused(tmp_path):
    data = make_multiframe(scans.body(), AFFINE)
    without(data, "PerFrameFunctionalGroupsSequence")
    file = save(data, tmp_path / "scan.dcm")
    with pytest.raises(InputRefusedError, match="wanted a place for each of 28 frames"):
        read_series(file)


def test_nothing_there(tmp_path):
    one = write_series(tmp_path / "in") / "IM0000"
    for name, message in {
        tmp_path / "gone": "no such",
        f"{tmp_path}::0123abcd": r"of this name, got 1 others: .*in \(T1w\)",
        one: "wanted at least 8 slices, got 1",
    }.items():
        with pytest.raises(InputRefusedError, match=message):
            read_series(name)
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(InputRefusedError, match="got no readable image"):
        read_series(tmp_path)
    with pytest.raises(InputRefusedError, match="got no readable image"):
        digest_source(tmp_path)
