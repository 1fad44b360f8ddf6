"""What lies in a folder is told by content: volumes, names, kinds."""

import pickle
import re

import numpy as np
import pytest

from brainjax.volume import dicom_index, dicom_kept
from brainjax.volume.dicom import find_series, read_series
from brainjax.volume.dicom_index import PSEUDONYM_KEY, index_folder
from brainjax.volume.dicom_sequence import Timing, guess_sequence
from tests.volume import scans
from tests.volume.dicoms import STUDY, make_slices, save, save_all, write_series

BODY = scans.body()[:, :, ::3]
AFFINE = scans.affine() @ np.diag([1.0, 1.0, 3.0, 1.0])


def only(folder):
    (series,) = index_folder(folder)
    return series


def test_a_folder_with_one_volume_has_its_name(tmp_path):
    series = only(write_series(tmp_path / "a" / "in", BODY, AFFINE).parent)
    assert series.name == series.folder == str(tmp_path / "a" / "in")
    assert (series.sequence, series.age, series.sex) == ("T1w", 34, "F")
    assert len(series.files) == BODY.shape[2]


def test_series_in_one_folder_are_told_apart_by_what_is_in_them(tmp_path):
    other: dict = {"SeriesInstanceUID": f"{STUDY}.2", "SeriesDescription": "t2_tse_tra"}
    other["SeriesNumber"] = 4
    folder = tmp_path / "in"
    first, second = BODY, BODY[::-1]
    slices = make_slices(first, AFFINE) + make_slices(second, AFFINE, **other)
    save_all(slices, folder)
    series = index_folder(folder)
    assert [s.sequence for s in series] == ["T1w", "T2w"]
    assert len({s.name for s in series}) == 2
    for one, voxels in zip(series, (first, second), strict=True):
        assert re.fullmatch(r".*/in::[0-9a-f]{12}", one.name)
        assert find_series(one.name[:-4]) == one  # of eight digits, as once
        np.testing.assert_array_equal(read_series(one.name).stored, voxels)


SPLITS = {
    "echo": {"EchoTime": 80.0},
    "image type": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"]},
    "time": {"TemporalPositionIdentifier": 2},
    "acquisition": {"AcquisitionNumber": 2},
    "inversion": {"InversionTime": 1100.0},
    "b-value": {"DiffusionBValue": 1000.0},
}


@pytest.mark.parametrize("elements", SPLITS.values(), ids=SPLITS)
def test_one_series_that_is_two_volumes_is_split(elements, tmp_path):
    slices = make_slices(BODY, AFFINE) + make_slices(BODY[::-1], AFFINE, **elements)
    for number, data in enumerate(slices):
        data.SOPInstanceUID = f"1.2.{number}"
    series = index_folder(save_all(slices, tmp_path / "in"))
    assert len(series) == 2
    found = [read_series(s.name).stored for s in series]
    assert {np.array_equal(f, BODY) for f in found} == {True, False}
    hashes = {read_series(s.name).sha256 for s in series}
    assert len(hashes) == 2


def test_a_name_is_the_same_from_any_folder_above(tmp_path):
    """Parts of one series in two folders, their directions alike up to rounding."""
    for number, turn in enumerate(("0.00001", "-0")):
        slices = make_slices(
            BODY, AFFINE, EchoTime=10.0 * number, AcquisitionNumber=number
        )
        twins = make_slices(BODY, AFFINE, EchoTime=99.0, AcquisitionNumber=number)
        for k, data in enumerate(slices + twins):
            data.ImageOrientationPatient = ["-1", turn, "0", "0", "-1", "0"]
            data.SOPInstanceUID = f"1.{number + 2}.{k}"
        save_all(slices + twins, tmp_path / "in" / str(number))
    names = [series.name for series in index_folder(tmp_path)]
    assert len(set(names)) == 4
    for name in names:
        assert read_series(name).stored.shape == BODY.shape


def test_odd_and_even_slices_of_two_acquisitions_are_one_volume(tmp_path):
    slices = make_slices(BODY, AFFINE)
    for k, data in enumerate(slices):
        data.AcquisitionNumber = 1 + k % 2
    assert only(save_all(slices, tmp_path / "in")).files


def test_rounded_directions_are_one_volume(tmp_path):
    slices = make_slices(BODY, AFFINE)
    slices[5].ImageOrientationPatient = ["-1", "0.00001", "0", "0", "-1", "0.00002"]
    assert len(only(save_all(slices, tmp_path / "in")).files) == BODY.shape[2]


def test_three_planes_of_a_localiser_are_left_out(tmp_path):
    slices = []
    for number, order in enumerate(([0, 1, 2], [1, 2, 0], [2, 0, 1])):
        turned = AFFINE[:, [*order, 3]]
        part = make_slices(BODY.transpose(order), turned, SeriesDescription="3 views")
        slices += part[4:7]
        for data in part:
            data.SOPInstanceUID += f".{number}"
    found = index_folder(save_all(slices, tmp_path / "in"))
    assert [series.left_out for series in found] == ["localiser"] * 3


def test_who_is_who_without_names(tmp_path, monkeypatch):
    one = only(write_series(tmp_path / "one", BODY, AFFINE, PatientID="4711"))
    assert re.fullmatch("p[0-9a-f]{10}", str(one.subject))
    assert re.fullmatch("study[0-9a-f]{6}", str(one.session))
    same = only(write_series(tmp_path / "two", BODY, AFFINE, PatientID="4711"))
    assert same[4:6] == one[4:6]
    monkeypatch.setenv(PSEUDONYM_KEY, "secret")
    keyed = only(tmp_path / "one")
    assert keyed.subject != one.subject
    monkeypatch.delenv(PSEUDONYM_KEY)
    for patient in ("ANONYMOUS", None):
        nobody = only(
            write_series(tmp_path / f"no {patient}", BODY, AFFINE, PatientID=patient)
        )
        assert nobody.subject not in (None, one.subject)
    named = only(write_series(tmp_path / "sub-07" / "ses-b" / "T1", BODY, AFFINE))
    assert (named.subject, named.session) == ("07", "b")


AGES = {
    (("PatientAge", "006M"),): 0,
    (("PatientAge", "104W"),): 1,
    (("PatientAge", None), ("PatientBirthDate", "19800302")): 39,
    (("PatientAge", None), ("PatientBirthDate", "19800301")): 40,
    (("PatientAge", None),): None,
    (("PatientAge", "000Y"),): 0,
}


@pytest.mark.parametrize(("elements", "wanted"), AGES.items())
def test_age_in_whole_years(elements, wanted, tmp_path):
    save(make_slices(BODY, AFFINE, **dict(elements))[0], tmp_path / "in" / "x")
    assert only(tmp_path / "in").age == wanted


def test_the_index_follows_the_folder(tmp_path):
    folder = write_series(tmp_path / "in", BODY, AFFINE)
    assert only(folder) is index_folder(folder)[0]  # read once
    (folder / "IM0000").unlink()
    assert len(only(folder).files) == BODY.shape[2] - 1


def test_another_process_needs_not_index_what_was_handed_over(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "in", BODY, AFFINE)
    wanted, setup = only(folder), pickle.dumps(dicom_kept.hand_over())
    monkeypatch.setattr(dicom_kept, "_known", {})  # as a new process has it
    monkeypatch.setattr(dicom_index, "read_header", None)
    pickle.loads(setup)()
    assert only(folder) == wanted
    (folder / "IM0000").unlink()  # a folder that changed since is another
    (damaged,) = dicom_index.index_files([folder / "IM0001"]).damaged
    assert damaged == str(folder / "IM0001")


def test_few_folders_are_remembered_the_last_ones(monkeypatch):
    monkeypatch.setattr(dicom_kept, "_known", {})
    looked = []

    def look(number: int) -> str:
        looked.append(number)
        return str(number)

    for number in (0, 1, 0, 2, 3, 4, 0, 1):
        assert dicom_kept.remember(look, number) == str(number)
    assert looked == [0, 1, 2, 3, 4, 1]
    assert len(dicom_kept._known) == dicom_kept.MOST


WORDS = {
    "t1_mprage_sag_p2_iso": "T1w",
    "sT1W_3D_TFE": "T1w",
    "Ax T1 SE": "T1w",
    "3D BRAVO": "T1w",
    "t1_mprage_tra_KM": "T1CE",
    "T1 post gad": "T1CE",
    "AX T1 +C": "T1CE",
    "t1c": "T1CE",
    "T1 pre contrast": "T1w",
    "T1 without gad": "T1w",
    "t2_space_dark-fluid_sag": "FLAIR",
    "AX T2 FLAIR": "FLAIR",
    "T1 FLAIR": "T1w",
    "t2_tse_tra": "T2w",
    "sT2W_TSE": "T2w",
    "t2*_gre": "T2starw",
    "PD axial": "PDw",
    "axial": None,
    "T1 and T2": None,
}
OTHERS = {
    "localizer": "localiser",
    "AAHScout": "localiser",
    "ep2d_diff_3scan_trace": "diffusion",
    "DWI b1000": "diffusion",
    "ADC": "diffusion",
    "SWI_Images": "susceptibility",
    "ep2d_perf": "perfusion",
    "TOF_3D_multi-slab": "angiography",
    "bold_task": "function",
    "gre_field_mapping": "field map",
    "T1 map": "quantitative map",
    "Phoenix Document": "report",
}


@pytest.mark.parametrize(("words", "wanted"), WORDS.items())
def test_words_name_the_sequence(words, wanted):
    guess = guess_sequence(words, ("ORIGINAL", "PRIMARY", "M"), Timing())
    assert guess == (wanted, None)


@pytest.mark.parametrize(("words", "reason"), OTHERS.items())
def test_words_name_what_is_left_out(words, reason):
    guess = guess_sequence(words, ("ORIGINAL", "PRIMARY", "M"), Timing())
    assert guess == (None, reason)


TIMES = {
    Timing(te=2.98, tr=2300, ti=900, flip=9): "T1w",
    Timing(te=3.2, tr=8.2, flip=12): "T1w",
    Timing(te=10, tr=550, flip=90): "T1w",
    Timing(te=100, tr=5000, flip=150): "T2w",
    Timing(te=120, tr=9000, ti=2500, flip=150): "FLAIR",
    Timing(te=30, tr=2500, flip=90): None,
    Timing(): None,
}


@pytest.mark.parametrize(("timing", "wanted"), TIMES.items())
def test_timing_names_the_sequence_where_words_do_not(timing, wanted):
    assert guess_sequence("series 4", ("ORIGINAL",), timing).sequence == wanted


def test_the_header_may_say_more_than_the_words():
    plain = ("ORIGINAL", "PRIMARY", "M")
    contrast = guess_sequence("t1_mprage", plain, Timing(), contrast=True)
    assert contrast.sequence == "T1CE"
    phase = guess_sequence("t1_mprage", ("ORIGINAL", "PRIMARY", "P"), Timing())
    assert phase.left_out == "phase"
    knee = guess_sequence("t1", plain, Timing(), body_part="KNEE")
    assert knee.left_out == "another part of the body"
    flavour = guess_sequence("x", ("ORIGINAL", "PRIMARY", "T2", "NONE"), Timing())
    assert flavour.sequence == "T2w"
