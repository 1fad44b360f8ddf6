"""DICOM in folders, tables and BIDS trees becomes sources, one for each volume."""

import logging
import sys

import pytest

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records import staging
from brainjax.records.encoding import encode_record
from brainjax.records.runners import Way
from brainjax.records.sources import Source, find_sources, header_labels
from brainjax.volume.recipe import make_recipe, prepare_volume
from tests.volume import scans
from tests.volume.dicoms import (
    NAME,
    STUDY,
    identify,
    make_slices,
    save,
    save_all,
    write_series,
)

SMALL = scans.body()[:, :, ::3]


def write(folder, **elements):
    affine = scans.affine()
    affine[:3, 2] *= 3
    return write_series(folder, SMALL, affine, **elements)


@pytest.fixture
def export(tmp_path):
    """Two patients: three series in three folders, one of them a localiser."""
    write(tmp_path / "a" / "1")
    write(
        tmp_path / "a" / "2",
        SeriesInstanceUID=f"{STUDY}.2",
        SeriesDescription="localizer",
    )
    write(
        tmp_path / "b",
        PatientID="815",
        SeriesDescription="t2_tse",
        PatientSex="M",
        SeriesInstanceUID=f"{STUDY}.3",
        StudyInstanceUID=f"{STUDY}.9",
    )
    return tmp_path


def test_a_folder_of_series(export, caplog):
    caplog.set_level(logging.INFO, "brainjax")
    one, other = find_sources([export])
    assert (one.path, one.sequence) == (str(export / "a" / "1"), "T1w")
    assert (other.path, other.sequence) == (str(export / "b"), "T2w")
    assert one.subject != other.subject
    assert one.session != other.session
    assert "DICOM series left out: 1 localiser" in caplog.text
    labels = header_labels([one, other])
    assert labels[other.path] == {"age": 34, "sex": "M"}


def test_files_moved_together_are_the_same_sources(export, tmp_path):
    before = find_sources([export])
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(export.rglob("IM*"))):
        file.rename(flat / f"{number}.dcm")
    after = find_sources([flat])
    assert all(source.path.startswith(f"{flat}::") for source in after)
    assert {source[1:] for source in after} == {source[1:] for source in before}
    assert find_sources([after[0].path]) == [after[0]]


def test_nifti_and_dicom_side_by_side(export):
    scans.write(export / "c" / "sub-3_T1w.nii.gz")
    assert [source.sequence for source in find_sources([export])] == [
        *("T1w", "T2w", "T1w")
    ]


def test_a_table_names_series(export):
    table = export / "scans.csv"
    table.write_text("path,subject\na/1,anna\nb,ben\n")
    found = [source[1:4] for source in find_sources([table])]
    assert [(subject, sequence) for subject, _, sequence in found] == [
        *(("anna", "T1w"), ("ben", "T2w"))
    ]


def test_only_what_is_no_scan_is_refused(tmp_path):
    write(tmp_path / "in", Modality="CT")
    with pytest.raises(InputRefusedError, match="got none but series of 1 CT"):
        find_sources([tmp_path])


def test_what_was_indexed_is_handed_to_the_workers(export, tmp_path, monkeypatch):
    sources, given = find_sources([export]), {}
    monkeypatch.setattr(staging, "run_tasks", lambda *words, **more: given.update(more))
    job = staging.Job(tmp_path, make_recipe(spacing=8.0), None)
    staging.stage_all(job, sources, Way(workers=2), lambda *words: None)
    (known,) = given["setup"].args
    names = {series.name for index in known.values() for series in index.series}
    assert names >= {source.path for source in sources}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"no image, just words\n", "text"),
        ("ü".encode() * 300, "text"),
        (b"", "an empty file"),
        (b"PK\x03\x04", "a zip archive"),
        (bytes(range(256)), "other bytes"),
    ],
)
def test_what_is_called_dicom_and_is_none_is_told(content, kind, tmp_path):
    path = tmp_path / "scan.DCM"
    path.write_bytes(content)
    with pytest.raises(InputRefusedError, match=f"wanted DICOM, got '{kind}'"):
        find_sources([path])


def test_damaged_files_stay_on_the_list(export):
    file = export / "d" / "IM1"
    file.parent.mkdir()
    file.write_bytes((export / "b" / "IM0001").read_bytes()[:300])
    found = find_sources([export])
    assert Source(str(file)) in found
    assert len(found) == 3


def test_bids_trees_give_their_anatomy(tmp_path, caplog):
    caplog.set_level(logging.INFO, "brainjax")
    for name in (
        *("sub-1/ses-1/anat/sub-1_ses-1_T1w", "sub-1/ses-1/func/sub-1_ses-1_bold"),
        *("sub-2/anat/sub-2_T1w", "sub-2/dwi/sub-2_dwi", "sub-2/fmap/sub-2_phasediff"),
        *("derivatives/sub-1/anat/sub-1_T1w", "sourcedata/sub-1/anat/sub-1_T1w"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write(tmp_path / "sourcedata" / "sub-2" / "anat" / "T1")
    found = find_sources([tmp_path])
    assert [source[1:4] for source in found] == [("1", "1", "T1w"), ("2", None, "T1w")]
    said = "1 derivatives, 1 dwi, 1 fmap, 1 func, 1 sourcedata"
    assert f"folders left out: {said}" in caplog.text
    inside = find_sources([tmp_path / "sourcedata"])
    assert [source.subject for source in inside] == ["1", "2"]
    (named,) = find_sources([tmp_path / "sub-2" / "dwi"])
    assert named.sequence == "dwi"


def test_without_pydicom_nifti_goes_on(export, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"brainjax\[scanner\]"):
        find_sources([export])
    scans.write(export / "c" / "sub-3_T1w.nii.gz")
    (found,) = find_sources([export])
    assert found.subject == "3"
    assert "pydicom is not installed" in caplog.text


def test_links_that_go_round_end(export):
    (export / "a" / "again").symlink_to(export)
    assert len(find_sources([export])) == 2


def test_no_name_goes_into_a_record(tmp_path, caplog, capfd):
    slices = [identify(data) for data in make_slices(scans.body(), scans.affine())]
    folder = save_all(slices, tmp_path / "in")
    assert any(NAME.encode() in file.read_bytes() for file in folder.iterdir())
    (source,) = find_sources([tmp_path])
    volume = prepare_volume(source.path, make_recipe(spacing=8.0))
    record = encode_record(volume.codes, {"provenance": volume.provenance})
    said = "".join([repr(source), caplog.text, *capfd.readouterr()])
    for text in (said, record.decode("latin-1")):
        assert NAME.lower() not in text.lower()
        assert STUDY not in text


def test_a_slice_file_alone_is_no_scan(tmp_path):
    affine = scans.affine()
    file = save(make_slices(SMALL, affine)[0], tmp_path / "one.dcm")
    with pytest.raises(InputRefusedError, match="wanted at least 8 slices, got 1"):
        find_sources([file])
