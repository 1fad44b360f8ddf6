"""A DICOM series in, a segmentation and a report of it out, each structure in place."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from brainjax.infer.segment import Segment
from brainjax.report.segmentation_files import write_answers
from brainjax.volume.dicom import read_series
from tests.infer.segmenting import bright_run
from tests.infer.test_segment_files import RECIPE, VIEW, rows_of
from tests.volume import dicoms
from tests.volume.scans import body
from tests.volume.test_orientation import stored

highdicom = pytest.importorskip("highdicom", reason="highdicom is not here")
pytest.importorskip("mirp", reason="mirp is not here")
FORMATS = ("nifti", "csv", "dicomseg", "dicomsr")


@pytest.fixture(scope="module")
def run():
    return bright_run(Path("runs/none"), recipe=RECIPE, view=VIEW)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    _, matrix = stored("LPS")
    voxels = body()[::-1, ::-1]
    folder = tmp_path_factory.mktemp("in") / "series"
    words = {"FrameOfReferenceUID": "1.2.3.4", "SliceThickness": 6.0}
    return dicoms.write_series(folder, voxels, matrix, **words)


def planes(path: Path) -> np.ndarray:
    """Gives where segment 1 is, [column, row, slice]."""
    found = highdicom.seg.segread(path)
    files = sorted(p for p in (path.parents[1] / "in").rglob("*") if p.is_file())
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    headers.sort(key=lambda header: float(header.ImagePositionPatient[2]))
    uids = [header.SOPInstanceUID for header in headers]
    words = {"segment_numbers": [1], "assert_missing_frames_are_empty": True}
    frames = found.get_pixels_by_source_instance(uids, **words)
    return frames[..., 0].transpose(2, 1, 0)


def test_a_series_is_answered_in_four_formats(run, series, tmp_path):
    (tmp_path / "in").symlink_to(series)
    out = tmp_path / "out"
    answers = Segment(run, [str(series)], largest=True)
    words = {"formats": FORMATS, "shape": True}
    assert write_answers(answers, out, **words) == answers.failures == []
    (label,) = out.glob("*_dseg.nii.gz")
    image: Any = nib.load(label)
    np.testing.assert_allclose(image.affine, read_series(series).affine, atol=1e-4)
    found = np.asarray(image.dataobj) == 1
    block = np.argwhere(read_series(series).stored == 900).mean(0)
    np.testing.assert_allclose(np.argwhere(found).mean(0), block, atol=0.5)
    assert block[0] < (image.shape[0] - 1) / 2  # the right is first in this file
    (seg,) = out.glob("*_seg.dcm")
    (report,) = out.glob("*_sr.dcm")
    assert report.stat().st_size > 1000
    assert np.array_equal(planes(seg) > 0, found)
    by_name = {row["structure"]: row for row in rows_of(out)}
    assert float(by_name["left_a"]["sphericity"]) < 1.01
    assert by_name["b"]["sphericity"] == ""


def test_a_file_made_of_a_series_takes_that_series(run, series, tmp_path):
    (tmp_path / "in").symlink_to(series)
    volume = read_series(series)
    turned = nib.as_closest_canonical(nib.Nifti1Image(volume.stored, volume.affine))
    nib.save(turned, tmp_path / "scan.nii")
    answers = Segment(run, [str(tmp_path / "scan.nii")], largest=True)
    words = {"formats": ("dicomseg",), "source": str(series)}
    assert write_answers(answers, tmp_path / "out", **words) == []
    block = np.argwhere(volume.stored == 900).mean(0)
    found = np.argwhere(planes(tmp_path / "out" / "scan_seg.dcm")).mean(0)
    np.testing.assert_allclose(found, block, atol=0.5)
