"""From raw scans to qc.tsv through the command line, in good and in bad order."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from brainjax.cli import main
from brainjax.cli.parser import make_parser
from brainjax.records import prepare as prepare_module
from brainjax.records.qc_table import read_qc_table
from brainjax.records.staging import read_stored
from brainjax.records.store import open_dataset
from brainjax.volume import placing
from brainjax.volume.register import Alignment
from tests.conftest import write_scan
from tests.records.lying import WORDS, contents
from tests.volume import scans
from tests.volume.dicoms import (
    NAME,
    identify,
    make_slices,
    oblique,
    save_all,
    write_series,
)


@pytest.fixture
def quick(monkeypatch) -> None:
    """All in this process, and scans lie over their reference as they are."""
    still = Alignment(np.eye(4), 1.0, "rigid")
    monkeypatch.setattr(placing, "align_scans", lambda *_, **__: still)
    stage = prepare_module.stage_all

    def stage_here(job, sources, way, done):
        stage(job, sources, way._replace(limit_s=None), done)

    monkeypatch.setattr(prepare_module, "stage_all", stage_here)


def run(source: Path, out: Path, *words: str) -> int:
    here = ["prepare", str(source), "--out", str(out), "--workers", "1"]
    return main([*here, *WORDS, *words])


@pytest.fixture
def batch(tmp_path) -> Path:
    """Four brains of two sizes, and one too small for an adult."""
    home = tmp_path / "in"
    for number, size in enumerate((1.0, 1.02, 1.0, 1.02, 0.7)):
        write_scan(home / f"sub-{number}_T1w.nii.gz", seed=number, size=size)
    write_scan(home / "sub-0_T2w.nii.gz", seed=9)
    return home


def test_a_table_and_a_page_say_what_stands_out(quick, batch, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(batch, out) == 0
    rows = read_qc_table(out / "qc.tsv")
    assert [row["subject"] for row in rows] == ["0", "0", "1", "2", "3", "4"]
    manifest = open_dataset(out).rows
    assert [row["key"] for row in rows] == [row["key"] for row in manifest]
    flagged = [row["subject"] for row in rows if row["flags"]]
    assert flagged == ["4"]
    assert rows[-1]["flags"][0].startswith("brain_ml")
    assert rows[0]["brain_ml"] == pytest.approx(1212, abs=5)
    assert "1 stand out (kept)" in capsys.readouterr().out
    page = (out / "qc.html").read_text()
    assert "1 is flagged" in page
    assert len(open_dataset(out)) == 6


def test_what_stands_out_is_left_out_on_request(quick, batch, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(batch, out, "--exclude-flagged") == 0
    assert {row["subject"] for row in open_dataset(out).rows} == set("0123")
    assert len(read_qc_table(out / "qc.tsv")) == 6
    assert len(list((out / "kept").iterdir())) == 6
    capsys.readouterr()
    assert run(batch, out, "--exclude-flagged") == 0
    assert "5 of 6 scans prepared (6 reused)" in capsys.readouterr().out
    assert run(batch, out) == 0  # taken in again, nothing made anew
    assert "6 of 6 scans prepared (6 reused)" in capsys.readouterr().out
    assert not (out / "aside").exists()
    assert len(open_dataset(out)) == 6


def test_what_went_through_a_flagged_reference_is_flagged(quick, batch, tmp_path):
    out = tmp_path / "out"
    (batch / "sub-4_T2w.nii.gz").write_bytes((batch / "sub-4_T1w.nii.gz").read_bytes())
    assert run(batch, out) == 0
    rows = read_qc_table(out / "qc.tsv")
    flags = {row["sequence"]: row["flags"] for row in rows if row["subject"] == "4"}
    assert "its reference stands out" in flags["T2w"]
    assert "its reference stands out" not in flags["T1w"]


def test_only_what_was_judged_can_be_left_out(batch, tmp_path, capsys):
    words = ["prepare", str(batch), "--out", str(tmp_path / "out")]
    assert main([*words, "--exclude-flagged"]) == 2
    assert "exclude-flagged: wanted a recipe that finds" in capsys.readouterr().err


def test_who_leaves_the_data_set_is_told(quick, batch, tmp_path, caplog):
    out = tmp_path / "out"
    assert run(batch, out) == 0
    assert run(batch / "sub-1_T1w.nii.gz", out) == 0
    assert "5 scans of an earlier call" in caplog.text


def test_a_dry_run_lists_and_writes_nothing(batch, tmp_path, capsys):
    before = contents(tmp_path)
    assert run(batch, tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "6 scans of 5 subjects in 5 sessions: 5 T1w, 1 T2w" in said
    assert "nothing was written" in said
    assert "registration none" in said
    assert not (tmp_path / "out").exists()
    assert contents(tmp_path) == before


def test_bad_scans_are_listed_and_the_others_there(batch, tmp_path, capsys):
    for number in (1, 3):
        (batch / f"sub-{number}_T1w.nii.gz").write_bytes(b"no image")
    scans.write(batch / "sub-4_T1w.nii.gz", np.zeros((20, 20, 20), np.int16))
    out = tmp_path / "out"
    assert run(batch, out) == 2
    said = capsys.readouterr()
    assert "3 of 6 scans prepared" in said.out
    assert "3 scans were refused:" in said.err
    assert {row["subject"] for row in open_dataset(out).rows} == {"0", "2"}
    listed = (out / "failures.tsv").read_text().splitlines()[1:]
    assert [Path(line.split("\t")[0]).name[:5] for line in listed] == [
        *("sub-1", "sub-3", "sub-4")
    ]


@pytest.mark.parametrize("word", ["0", "0.0", "none"])
def test_the_limit_is_switched_off_by_a_word(word):
    words = ["prepare", "scans", "--out", "out", "--limit-s"]
    assert make_parser().parse_args([*words, word]).limit_s is None
    assert make_parser().parse_args([*words, "5"]).limit_s == 5
    with pytest.raises(SystemExit):
        make_parser().parse_args([*words, "soon"])


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_a_limit_that_nothing_can_meet_is_refused(batch, tmp_path, seconds, capsys):
    assert run(batch, tmp_path / "out", f"--limit-s={seconds}") == 2
    assert "limit-s: wanted more than 0 seconds" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dicom_folder_gives_what_its_nifti_twin_gives(quick, tmp_path):
    affine = oblique(scans.affine())
    series = write_series(tmp_path / "series", affine=affine)
    twin = tmp_path / "nifti" / "sub-1_T1w.nii.gz"
    scans.write(twin, matrix=affine)
    for source, out in ((series, "d"), (twin, "n")):
        assert run(source, tmp_path / out, "--header-labels") == 0
    one, other = (open_dataset(tmp_path / out) for out in "dn")
    np.testing.assert_array_equal(one.read(0), other.read(0))
    np.testing.assert_allclose(
        one.rows[0]["affine"], other.rows[0]["affine"], atol=1e-4
    )
    assert one.rows[0]["labels"] == {"age": 34.0, "sex": "F"}
    assert other.rows[0]["labels"] == {}


def test_no_name_of_a_header_is_in_any_byte(quick, tmp_path):
    slices = [identify(data) for data in make_slices(scans.body(), scans.affine())]
    save_all(slices, tmp_path / "series")
    assert run(tmp_path / "series", tmp_path / "out", "--header-labels") == 0
    dataset = open_dataset(tmp_path / "out")
    _, header = read_stored(tmp_path / "out", "now").shards[0].read(0)
    assert header["provenance"]["dicom"]
    texts = {"rows": repr(dataset.rows).encode(), "record": repr(header).encode()}
    for name, data in contents(tmp_path / "out").items():
        texts[name] = name.encode() + data
        if name.endswith(".gz"):
            texts[f"{name} inside"] = gzip.decompress(data)
        if name.endswith(".npz"):
            with zipfile.ZipFile(tmp_path / "out" / name) as archive:
                texts[f"{name} inside"] = b"".join(
                    map(archive.read, archive.namelist())
                )
    assert {"qc.tsv", "qc.html", "manifest.jsonl"} <= set(texts)
    for name, text in texts.items():
        assert NAME.lower().encode() not in text.lower(), name
