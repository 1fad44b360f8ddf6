"""Reports hold what was measured, tied to the segment and the series."""

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from brainjax.errors import InputRefusedError
from brainjax.evaluate.shape import SHAPE_FEATURES, shape_of
from brainjax.report.dicom_out import write_dicom
from brainjax.report.dicom_sr import MEANINGS
from tests.report.test_dicom_seg import (
    AFFINE,
    NAMES,
    PATIENT,
    dciodvfy,
    some_labels,
    some_voxels,
)
from tests.volume import dicoms

FACTS = {"algorithm": "a network", "version": "1.0", "checkpoint": "abc", "x": None}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sr")
    dicoms.write_series(folder / "in", some_voxels(), AFFINE, **PATIENT)
    rest = (some_labels(), AFFINE, NAMES, folder / "in", ["dicomsr"], FACTS)
    return write_dicom(folder / "out", "scan", *rest)


@pytest.fixture(scope="module")
def report(written):
    return highdicom.sr.srread(written[1])


def test_a_report_brings_its_segmentation(written):
    assert [path.name for path in written] == ["scan_seg.dcm", "scan_sr.dcm"]


def test_groups_measure_the_segments(written, report):
    segmentation = pydicom.dcmread(written[0])
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(NAMES)
    for number, group in enumerate(groups, start=1):
        segment = segmentation.SegmentSequence[number - 1]
        assert group.tracking_identifier == NAMES[number - 1]
        assert group.tracking_uid == segment.TrackingUID
        item = group.referenced_segment.referenced_sop_instance_uid
        assert item == segmentation.SOPInstanceUID
        assert group.referenced_segment.has_source_images() is False
        series = group.referenced_segment.source_series_for_segmentation
        assert (
            series.value == segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
        )


def test_values_and_units_are_those_of_the_shapes(report):
    groups = report.content.get_volumetric_roi_measurement_groups()
    for number, group in enumerate(groups[:3], start=1):
        shape = shape_of(some_labels() == number, AFFINE)
        volume = group.get_measurements(name=codes.SCT.Volume)[0]
        assert volume.value == pytest.approx(shape.volume_ml, rel=1e-6)
        assert volume.unit.value == "ml"
        for key, value in shape.features.items():
            name = pydicom.sr.coding.Code(SHAPE_FEATURES[key].ibsi, "IBSI", "")
            found = group.get_measurements(name=name)[0]
            assert found.value == pytest.approx(value, rel=1e-4), key
    assert len(groups[3].get_measurements()) == 1
    assert groups[3].get_measurements()[0].value == 0


def test_sides_and_places_are_coded(report):
    groups = report.content.get_volumetric_roi_measurement_groups()
    sites = [group.finding_sites[0] for group in groups]
    assert [site.laterality.meaning for site in sites[:2]] == ["Left", "Right"]
    assert sites[0].value.value == "5366008"
    assert sites[3].value.scheme_designator == "99BRAINJAX"


def test_names_of_features_are_those_of_dicom():
    from pydicom.sr import _concepts_dict

    known = {
        value: meaning
        for terms in _concepts_dict.concepts["IBSI"].values()
        for value, (meaning, _) in terms.items()
    }
    for key, feature in SHAPE_FEATURES.items():
        assert known[feature.ibsi] == MEANINGS[key]


def test_the_report_is_of_the_same_study_and_reruns_alike(written, tmp_path):
    segmentation, report = (pydicom.dcmread(path) for path in written)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
        assert report[keyword].value == segmentation[keyword].value
    assert report.SeriesInstanceUID != segmentation.SeriesInstanceUID
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert len(evidence.ReferencedSeriesSequence) == 2
    folder = written[0].parent.parent / "in"
    rest = (some_labels(), AFFINE, NAMES, folder, ["dicomseg", "dicomsr"], FACTS)
    for one, other in zip(written, write_dicom(tmp_path, "scan", *rest), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_unknown_formats_are_refused(written, tmp_path):
    folder = written[0].parent.parent / "in"
    rest = (some_labels(), AFFINE, NAMES, folder, ["rtstruct"], FACTS)
    with pytest.raises(InputRefusedError, match="rtstruct"):
        write_dicom(tmp_path, "scan", *rest)


def test_an_independent_reader_finds_no_error(written):
    assert dciodvfy(written[1]) == []


@pytest.mark.slow
def test_a_whole_head_goes_out_and_comes_back(sample_scans, tmp_path):
    image = nib.load(sample_scans / "wholehead" / "S1_T1w.nii.gz")
    voxels, affine = np.asarray(image.dataobj).astype(np.int16), image.affine
    grid = np.indices(voxels.shape).reshape(3, -1)
    mm = (affine[:3, :3] @ grid + affine[:3, 3:]).reshape(3, *voxels.shape)
    labels = np.zeros(voxels.shape, np.uint8)
    for number, right in ((1, -30.0), (2, 30.0)):
        place = mm - np.array([right, 20.0, 0.0])[:, None, None, None]
        labels[(place**2).sum(axis=0) <= 20**2] = number
    dicoms.write_series(tmp_path / "in", voxels, affine, **PATIENT)
    rest = (labels, affine, NAMES[:2], tmp_path / "in", ["dicomsr"], FACTS)
    segmentation, report = write_dicom(tmp_path / "out", "S1", *rest)
    assert dciodvfy(segmentation) == dciodvfy(report) == []
    read = highdicom.seg.segread(segmentation).get_volume(
        combine_segments=True, allow_missing_positions=True
    )
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, side in ((1, -1), (2, 1)):
        found = np.argwhere(read.array == number)
        places = (lps @ read.affine @ np.c_[found, np.ones(len(found))].T)[:3]
        assert (np.sign(places[0]) == side).all()
        back = (np.linalg.inv(affine) @ np.vstack([places, np.ones(len(found))]))[:3]
        np.testing.assert_allclose(back, np.round(back), atol=1e-4)
        inside = np.round(back).astype(int)
        assert (labels[tuple(inside)] == number).all()
        assert len(found) == (labels == number).sum()
    groups = highdicom.sr.srread(report).content
    for group in groups.get_volumetric_roi_measurement_groups():
        volume = group.get_measurements(name=codes.SCT.Volume)[0].value
        assert volume == pytest.approx(4 / 3 * np.pi * 8, rel=0.01)
