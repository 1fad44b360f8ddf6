"""What names and tables say of scans."""

import logging

import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.sources import Source, describe, find_sources

NAMES = {
    "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz": ("01", "2", "T1w"),
    "sub-01/anat/sub-01_run-1_FLAIR.nii": ("01", None, "FLAIR"),
    "sub-01/ses-a/T2.nii.gz": ("01", "a", "T2w"),
    "sub-7_ce-gad_T1w.nii.gz": ("7", None, "T1CE"),
    "sub-7_PDw.nii.gz": ("7", None, "PDw"),
    "x/patient07_T1POST.nii.gz": ("patient07", None, "T1CE"),
    "x/00001_t1c.nii.gz": ("00001", None, "T1CE"),
    "x/BraTS-GLI-00005-100-t2f.nii.gz": ("BraTS-GLI-00005-100", None, "FLAIR"),
    "stroke/FLAIR.nii.gz": ("stroke", None, "FLAIR"),
    "stroke/T1_brain.nii.gz": ("stroke", None, "T1w"),
    "x/T1_anna.nii.gz": ("anna", None, "T1w"),
    "wholehead/S1_T1w.nii.gz": ("S1", None, "T1w"),
    "subpixar009_T1w.nii.gz": ("subpixar009", None, "T1w"),
    "x/scan12.NII.GZ": ("scan12", None, None),
}


@pytest.mark.parametrize(("name", "wanted"), NAMES.items())
def test_names(name, wanted):
    assert describe(name)[1:4] == wanted


@pytest.fixture
def folder(tmp_path):
    for name in (
        *("b/sub-2_T1w.nii.gz", "a/sub-1_T1w.nii.gz", "a/sub-1_dseg.nii.gz"),
        *("a/sub-1_mask.nii.gz", ".git/sub-3_T1w.nii.gz", "a/._sub-1_T1w.nii.gz"),
        *("derivatives/sub-1_T1w.nii.gz", "notes.txt"),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_gives_scans_sorted_and_counts_label_maps(folder, caplog):
    caplog.set_level(logging.INFO, "brainjax")
    found = find_sources([folder, folder / "b", folder / "a/../a/sub-1_T1w.nii.gz"])
    assert [(source.subject, source.sequence) for source in found] == [
        ("1", "T1w"),
        ("2", "T1w"),
    ]
    assert "2 label maps and masks" in caplog.text


def test_a_label_map_that_is_named_is_taken(folder):
    (found,) = find_sources([str(folder / "a/sub-1_dseg.nii.gz")])
    assert found.path.endswith("sub-1_dseg.nii.gz")


def test_a_table_is_relative_to_itself_and_goes_before_names(folder):
    table = folder / "scans.csv"
    table.write_text(
        "\ufeffpath,subject,sequence,mask\n"
        "b/sub-2_T1w.nii.gz,sub-anna,t1post,a/sub-1_mask.nii.gz\n"
        "a/sub-1_T1w.nii.gz,n/a,,\n"
    )
    mask = str(folder / "a/sub-1_mask.nii.gz")
    assert find_sources([folder, table]) == [
        Source(str(folder / "a/sub-1_T1w.nii.gz"), None, None, "T1w", None),
        Source(str(folder / "b/sub-2_T1w.nii.gz"), "anna", None, "T1CE", mask),
    ]


TABLES = {
    "file,subject\nx,1\n": "line 1: wanted a column path, got file, subject",
    "path,who\nx,1\n": "line 1: wanted a column subject",
    "path,subject\ngone.nii,1\n": "line 2: column path: wanted a file, got gone.nii",
    "path,subject\n,1\n": "line 2: column path: wanted a file, got None",
    "path,subject\na/sub-1_T1w.nii.gz\n": "line 2: wanted 2 values",
    "path,subject,mask\na/sub-1_T1w.nii.gz,1,x.nii\n": "line 2: column mask",
    "path,subject,subject\nx,1,1\n": "line 1: wanted each column once",
    "path,,subject\nx,1,1\n": "line 1: wanted a name for column 2",
    "path,subject\n": "at least 1 row",
    "": "got an empty table",
    "path,subject\na/sub-1_T1w.nii.gz,1\na/sub-1_T1w.nii.gz,2\n": "one description",
}


@pytest.mark.parametrize(("text", "message"), TABLES.items())
def test_bad_tables_are_refused_in_one_line(folder, text, message):
    table = folder / "scans.csv"
    table.write_text(text)
    with pytest.raises(InputRefusedError, match=message) as caught:
        find_sources([table])
    assert str(table) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there_is_refused(folder):
    (folder / "empty").mkdir()
    (folder / "latin.csv").write_bytes(b"path,subject\n\xe9,1\n")
    for name, message in {
        "gone": "got nothing",
        "empty": "got none",
        "notes.txt": r"got '\.txt'",
        "gone.csv": "No such file",
        "latin.csv": "wanted UTF-8",
    }.items():
        with pytest.raises(InputRefusedError, match=message):
            find_sources([folder / name])
    with pytest.raises(InputRefusedError, match="got none"):
        find_sources([])
