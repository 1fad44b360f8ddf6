"""Segmentations lie where their series lies, say what they show, and are readable."""

import shutil
import subprocess
from datetime import datetime
from itertools import permutations, product

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr import _concepts_dict

from brainjax.errors import InputRefusedError
from brainjax.report.codes import PRIVATE, STRUCTURES, structure_of
from brainjax.report.dicom_objects import Algorithm
from brainjax.report.dicom_out import write_dicom
from brainjax.report.dicom_seg import write_seg
from brainjax.report.dicom_source import lay_on, read_source
from brainjax.volume.dicom import read_series
from tests.volume import dicoms

NAMES = ("left_hippocampus", "right_hippocampus", "csf", "odd thing")
MADE_BY = Algorithm("a network", "1.0", {"checkpoint": "abc", "recipe": "def"})
SHAPE = (20, 24, 12)
AFFINE = dicoms.oblique(
    np.array([[-3.5, 0, 0, 35], [0, 4, 0, -45], [0, 0, 5.5, -30], [0, 0, 0, 1.0]])
)
PATIENT = {
    "FrameOfReferenceUID": "1.2.3.4",
    "PatientName": "Wiseacre^Ann",
    "PatientBirthDate": "19860102",
    "AccessionNumber": "A77",
    "StudyTime": "101112",
    "StudyID": "9",
    "SliceThickness": 5.0,
}


def some_voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 500, SHAPE).astype(np.int16)


def some_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:8, 3:9, 4:9] = 1
    labels[12:16, 3:9, 4:9] = 2
    labels[12:16, 13:19, 3:11] = 3
    return labels


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    return dicoms.write_series(folder, some_voxels(), AFFINE, **PATIENT)


@pytest.fixture(scope="module")
def written(series, tmp_path_factory):
    """The source, the labels on its grid, and the file of the segmentation."""
    source = read_source(series)
    labels = lay_on(source, some_labels(), AFFINE)
    path = tmp_path_factory.mktemp("seg") / "a_seg.dcm"
    write_seg(path, source, labels, NAMES, MADE_BY)
    return source, labels, path


def test_what_is_read_back_is_what_was_written(written):
    source, labels, path = written
    data = highdicom.seg.segread(path)
    volume = data.get_volume(combine_segments=True, allow_missing_positions=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    # highdicom: [slice, row, column]; we: [column, row, slice].
    affine = lps @ volume.affine @ np.eye(4)[[2, 1, 0, 3]]
    found = volume.array.transpose(2, 1, 0)
    indices = np.argwhere(found)
    to_source = np.linalg.inv(source.affine) @ affine
    places = indices @ to_source[:3, :3].T + to_source[:3, 3]
    np.testing.assert_allclose(places, np.round(places), atol=1e-4)
    back = np.zeros_like(labels)
    back[tuple(np.round(places).astype(int).T)] = found[tuple(indices.T)]
    np.testing.assert_array_equal(back, labels)


def test_each_frame_lies_on_the_slice_it_refers_to(written, series):
    positions = {
        data.SOPInstanceUID: data.ImagePositionPatient
        for data in map(pydicom.dcmread, series.iterdir())
    }
    data = pydicom.dcmread(written[2])
    for frame in data.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = positions[image.ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == place


def test_left_and_right_stay_on_their_sides(written):
    source, labels, path = written
    reader = highdicom.seg.segread(path)
    for number, side in ((1, "Left"), (2, "Right")):
        described = reader.get_segment_description(number)
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        modifier = kind.SegmentedPropertyTypeModifierCodeSequence[0]
        assert (kind.CodeMeaning, modifier.CodeMeaning) == ("Hippocampus", side)
        where = np.argwhere(labels == number).mean(axis=0)
        right_mm = (source.affine @ [*where, 1])[0]
        expected = np.argwhere(some_labels() == number).mean(axis=0)
        assert right_mm == pytest.approx((AFFINE @ [*expected, 1])[0], abs=1e-4)


def test_patient_and_study_are_the_sources(written, series):
    source, _, path = written
    first, data = pydicom.dcmread(next(series.iterdir())), pydicom.dcmread(path)
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
        *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"),
        "FrameOfReferenceUID",
    ):
        assert data[keyword].value == first[keyword].value, keyword
    assert data.SeriesInstanceUID != first.SeriesInstanceUID
    assert data.Modality == "SEG"
    assert data.SeriesNumber == first.SeriesNumber + 1000
    referred = data.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == first.SeriesInstanceUID
    assert len(referred.ReferencedInstanceSequence) == len(source.headers)


def test_a_rerun_gives_the_same_bytes_and_other_labels_another_object(
    written, tmp_path
):
    source, labels, path = written
    again = tmp_path / "again.dcm"
    write_seg(again, source, labels, NAMES, MADE_BY)
    assert again.read_bytes() == path.read_bytes()
    uid = pydicom.dcmread(path).SOPInstanceUID
    other = write_seg(again, source, labels[:, :, ::-1].copy(), NAMES, MADE_BY)
    assert other.SOPInstanceUID != uid
    fresh = write_seg(again, source, labels, NAMES, MADE_BY, fresh=True)
    assert fresh.SOPInstanceUID != uid
    stated = datetime(2031, 2, 3, 4, 5, 6)
    then = write_seg(again, source, labels, NAMES, MADE_BY, when=stated)
    assert (then.ContentDate, then.ContentTime) == ("20310203", "040506")
    assert then.SOPInstanceUID != uid
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.dcm"]


def test_regions_may_overlap(written, tmp_path):
    source, labels, _ = written
    masks = np.stack([labels == 1, (labels == 1) | (labels == 2)], axis=-1)
    path = tmp_path / "o.dcm"
    write_seg(path, source, masks, ("tumour_core", "whole_tumour"), MADE_BY)
    data = highdicom.seg.segread(path)
    assert data.SegmentsOverlap == "YES"
    uids = [data_set.SOPInstanceUID for data_set in source.headers]
    read = data.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(read.transpose(2, 1, 0, 3), masks)


def test_a_multi_frame_source_is_referred_to_by_its_frames(tmp_path):
    data = dicoms.make_multiframe(some_voxels(), AFFINE, **PATIENT)
    dicoms.save(data, tmp_path / "in" / "m")
    written = write_dicom(
        *(tmp_path / "out", "a", some_labels(), AFFINE, NAMES, tmp_path / "in"),
        *(["dicomseg"], {"checkpoint": "abc"}),
    )
    made = highdicom.seg.segread(written[0])
    read = made.get_pixels_by_source_frame(
        data.SOPInstanceUID,
        list(range(1, SHAPE[2] + 1)),
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    frames = data.PerFrameFunctionalGroupsSequence
    heights = [f.PlanePositionSequence[0].ImagePositionPatient for f in frames]
    matrix = dicoms.lps(AFFINE)
    for pixels, place in zip(read, heights, strict=True):
        step = np.linalg.lstsq(
            matrix[:3, 2:3], np.array(place, float) - matrix[:3, 3], rcond=None
        )[0]
        expected = some_labels()[:, :, round(float(step[0]))]
        np.testing.assert_array_equal(pixels.T, expected)


def test_a_multi_frame_source_may_repeat_its_direction_in_each_frame(tmp_path):
    data = dicoms.make_multiframe(some_voxels(), AFFINE, **PATIENT)
    shared = data.SharedFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        for frame in data.PerFrameFunctionalGroupsSequence:
            setattr(frame, keyword, getattr(shared, keyword))
        delattr(shared, keyword)
    dicoms.save(data, tmp_path / "m")
    source = read_source(tmp_path / "m")
    labels = lay_on(source, some_labels(), AFFINE)
    made = write_seg(tmp_path / "s.dcm", source, labels, NAMES, MADE_BY)
    read = made.get_volume(combine_segments=True, allow_missing_positions=True)
    assert (read.array > 0).sum() == (labels > 0).sum()
    assert read.spacing[1:] == pytest.approx((4, 3.5))
    assert dciodvfy(tmp_path / "s.dcm") == []


def test_nothing_found_is_an_answer_too(written, tmp_path):
    source, labels, _ = written
    write_seg(tmp_path / "s.dcm", source, labels * 0, NAMES, MADE_BY)
    data = highdicom.seg.segread(tmp_path / "s.dcm")
    assert not data.pixel_array.any()
    assert len(data.SegmentSequence) == len(NAMES)


def test_what_dcm2niix_made_of_a_series_is_laid_on_it(series, tmp_path):
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    command = ["dcm2niix", "-z", "n", "-o", str(tmp_path), str(series)]
    subprocess.run(command, capture_output=True, check=True)
    image = nib.load(next(tmp_path.glob("*.nii")))
    laid = lay_on(read_source(series), np.asarray(image.dataobj), image.affine)
    np.testing.assert_array_equal(laid, read_series(series).stored)


ORDERS = [
    (order, flips)
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


@pytest.mark.parametrize("turn", ORDERS, ids=str)
def test_a_nifti_in_any_orientation_is_laid_on_its_series(written, turn):
    source, labels, _ = written
    change = np.stack(turn, axis=-1).astype(float)
    stored = nib.apply_orientation(labels, change)
    affine = source.affine @ nib.orientations.inv_ornt_aff(change, labels.shape)
    affine = affine.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(lay_on(source, stored, affine), labels)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a @ np.diag([1, 1, 1.001, 1]),
        lambda a: dicoms.oblique(a, 1.0),
        lambda a: a + np.eye(4)[:, [0]] * np.array([0, 0, 0, 0.01]),
    ],
    ids=["spacing", "turned", "moved"],
)
def test_another_grid_is_refused(written, change):
    source, labels, _ = written
    with pytest.raises(InputRefusedError) as refused:
        lay_on(source, labels, change(source.affine))
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("20x24x12") == 2


def test_another_size_is_refused(written):
    source, labels, _ = written
    with pytest.raises(InputRefusedError, match="19x24x12"):
        lay_on(source, labels[1:], source.affine)


def refusal(tmp_path, slices) -> str:
    dicoms.save_all(slices, tmp_path)
    with pytest.raises(InputRefusedError) as refused:
        read_source(tmp_path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def make(affine=AFFINE, **elements):
    return dicoms.make_slices(some_voxels(), affine, **{**PATIENT, **elements})


def test_series_that_no_even_grid_holds_are_refused(tmp_path):
    sheared = AFFINE.copy()
    sheared[:3, 2] += [0, 0.9, 0.2]
    assert "tilt of" in refusal(tmp_path / "tilted", make(sheared))
    slices = make()
    assert "1 missing" in refusal(tmp_path / "gap", slices[:5] + slices[6:])
    copy = make()[3]
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    doubled = refusal(tmp_path / "double", [*slices, copy])
    assert "one image at each place" in doubled
    uneven = make()
    place = np.array(uneven[4].ImagePositionPatient, float)
    normal = dicoms.lps(AFFINE)[:3, 2] / 5.5
    uneven[4].ImagePositionPatient = [dicoms.digits(v) for v in place + 0.1 * normal]
    assert "evenly spaced" in refusal(tmp_path / "uneven", uneven)
    turned = make()
    turned[4].ImageOrientationPatient = make(dicoms.oblique(AFFINE, 0.03))[
        0
    ].ImageOrientationPatient
    assert "one direction" in refusal(tmp_path / "turned", turned)


def test_what_a_segmentation_must_refer_to_is_never_made_up(tmp_path):
    without = make(FrameOfReferenceUID=None)
    assert "wanted a FrameOfReferenceUID" in refusal(tmp_path / "frame", without)
    with pytest.raises(InputRefusedError, match="wanted a DICOM series"):
        read_source(tmp_path / "scan.nii.gz")


def test_a_poor_header_stays_poor(tmp_path):
    """Absent is empty, odd values are kept; neither stops a segmentation."""
    poor = dict.fromkeys(PATIENT) | {"FrameOfReferenceUID": "1.2.3.4"}
    slices = make(**poor, PatientSex="X", PatientID=None)
    dicoms.save_all(slices, tmp_path / "in")
    source = read_source(tmp_path / "in")
    made = write_seg(tmp_path / "s.dcm", source, some_labels(), NAMES, MADE_BY)
    data = pydicom.dcmread(tmp_path / "s.dcm")
    assert (data.PatientID, data.PatientName, data.PatientSex) == ("", "", "X")
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == pytest.approx(5.5, abs=1e-5)


def test_labels_beyond_the_names_are_refused(written, tmp_path):
    source, labels, _ = written
    for wrong, names in ((labels, NAMES[:2]), (labels, ("a", "a", "b"))):
        with pytest.raises(InputRefusedError):
            write_seg(tmp_path / "s.dcm", source, wrong, names, MADE_BY)
    assert not list(tmp_path.iterdir())


def test_codes_agree_with_the_dictionary_of_dicom():
    """Where DICOM's dictionary has a value, our meaning is one of its meanings."""
    meanings: dict = {}
    for scheme, terms in _concepts_dict.concepts.items():
        for values in terms.values():
            for value, (meaning, _) in values.items():
                meanings.setdefault((scheme, value), set()).add(meaning.lower())
    missing = []
    for structure in STRUCTURES.values():
        for code in (structure.category, structure.kind, structure.site):
            if code is None:
                continue
            if (code.scheme, code.value) not in meanings:
                missing.append(code.meaning)
                continue
            assert code.meaning.lower() in meanings[code.scheme, code.value]
            assert len(code.value) <= 16
    assert missing == ["Entire basal ganglion"]


def test_names_find_their_structures():
    assert structure_of("Gray matter").kind.meaning == "Cerebral cortex"
    assert structure_of("brainstem") == structure_of("Brain-Stem")
    assert structure_of("thalamus_right").side.meaning == "Right"
    assert structure_of("lesions").site.meaning == "Brain"
    odd, other = structure_of("area 51"), structure_of("area 52")
    assert odd.kind.scheme == PRIVATE
    assert not odd.standard
    assert odd.kind.value != other.kind.value
    assert len(odd.kind.value) <= 16


def dciodvfy(path) -> list[str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, check=False
    )
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def test_an_independent_reader_finds_no_error(written):
    assert dciodvfy(written[2]) == []
