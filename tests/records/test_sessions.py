"""Scans of a session go through one of them, and however it is done alike."""

from pathlib import Path

import numpy as np
import pytest

from brainjax.records.sessions import Waves, plan_sessions
from brainjax.records.sources import Source, find_sources
from brainjax.records.staging import record_key
from brainjax.records.store import open_dataset
from brainjax.volume import placing
from brainjax.volume.recipe import make_recipe
from brainjax.volume.register import Alignment
from tests.conftest import write_scan
from tests.records.lying import RECIPE, contents, lay


def scan(name: str, subject: str | None, session: str | None, sequence: str | None):
    return Source(name, subject, session, sequence)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Scans lie over their reference as they are."""
    still = Alignment(np.eye(4), 1.0, "rigid")
    monkeypatch.setattr(placing, "align_scans", lambda *_, **__: still)


@pytest.fixture
def session(tmp_path) -> Path:
    """T1w, T2w and FLAIR of one subject, one scan of another, one of nobody."""
    home = tmp_path / "in"
    for number, name in enumerate(("T1w", "T2w", "FLAIR")):
        write_scan(home / f"sub-1_{name}.nii.gz", seed=number, size=1 + number / 50)
    write_scan(home / "sub-2_T2w.nii.gz", seed=7)
    return home


def test_the_best_sequence_is_the_reference():
    sources = [
        scan("c", "1", "a", "FLAIR"),
        scan("b", "1", "a", None),
        scan("d", "1", "a", "T1w"),
        scan("e", "1", "b", "T1w"),
        scan("a", "1", "a", "T1CE"),
        scan("f", None, None, "T1w"),
        scan("g", None, None, "T2w"),
        scan("h", "1", "a", "SWI"),
    ]
    assert plan_sessions(sources, RECIPE) == [[2, 4, 0, 1, 7], [3], [5], [6]]
    alone = make_recipe("mni_affine", session=False)
    for recipe in (alone, make_recipe("canonical")):
        assert plan_sessions(sources, recipe) == [[n] for n in range(8)]


def test_without_a_session_a_folder_is_one():
    pair = [scan("one/scan_T1.nii", "scan", None, "T1w")]
    pair.append(scan("other/scan_T2.nii", "scan", None, "T2w"))
    assert plan_sessions(pair, RECIPE) == [[0], [1]]
    beside = pair[1]._replace(path="one/scan_T2.nii")
    assert plan_sessions([pair[0], beside], RECIPE) == [[0, 1]]


def test_two_of_one_sequence_are_told_apart_by_name_not_by_order():
    pair = [scan("b", "1", None, "T1w"), scan("a", "1", None, "T1w")]
    assert plan_sessions(pair, RECIPE) == [[1, 0]]
    assert plan_sessions(pair[::-1], RECIPE) == [[0, 1]]


def test_waves_wait_for_references_and_promote_the_next():
    waves = Waves([[0, 1, 2], [3], [4, 5]])
    assert waves.next(set()) == [(0, None), (3, None), (4, None)]
    assert waves.next({3, 4}) == [(1, None), (5, 4)]
    assert waves.next({1, 3, 4, 5}) == [(2, 1)]
    assert waves.next({1, 2, 3, 4, 5}) == []


def test_nothing_is_handed_out_when_all_are_refused():
    waves = Waves([[0, 1]])
    assert [waves.next(set()) for _ in range(3)] == [[(0, None)], [(1, None)], []]


def test_each_row_says_through_what_it_went(quick, session, tmp_path):
    lay(find_sources([session]), tmp_path / "out")
    rows = open_dataset(tmp_path / "out").rows
    masks = {(row["subject"], row["sequence"]): row["mask"] for row in rows}
    assert masks == {
        ("1", "T1w"): "nonzero",
        ("1", "T2w"): "session",
        ("1", "FLAIR"): "session",
        ("2", "T2w"): "nonzero",
    }
    one = [row for row in rows if row["subject"] == "1"]
    assert len({str(row["affine"]) for row in one}) == 1  # one grid for all
    dataset = open_dataset(tmp_path / "out")
    outlines = [dataset.read(row["record"]) > 0 for row in one]
    assert all(np.array_equal(outlines[0], other) for other in outlines)


def test_where_the_reference_is_refused_the_next_lends(quick, session, tmp_path):
    (session / "sub-1_T1w.nii.gz").write_bytes(b"no image")
    result = lay(find_sources([session]), tmp_path / "out")
    assert [Path(path).name for path, _ in result.failures] == ["sub-1_T1w.nii.gz"]
    rows = open_dataset(tmp_path / "out").rows
    masks = [(r["subject"], r["sequence"], r["mask"]) for r in rows]
    assert ("1", "T2w", "nonzero") in masks
    assert ("1", "FLAIR", "session") in masks


def test_keys_change_with_the_reference(quick, session, tmp_path):
    source = find_sources([session])[0]
    keys = {record_key(source, RECIPE, None, word) for word in ("", "a", "b")}
    assert len(keys) == 3

    def keys_of(result_folder):
        rows = open_dataset(result_folder).rows
        return {(r["subject"], r["sequence"]): r["key"] for r in rows}

    out = tmp_path / "out"
    lay(find_sources([session]), out)
    before = keys_of(out)
    write_scan(session / "sub-1_T1w.nii.gz", seed=99)
    assert lay(find_sources([session]), out).reused == 1
    after = keys_of(out)
    same = {place for place in before if before[place] == after[place]}
    assert same == {("2", "T2w")}
    assert {p.name for p in (out / "kept").iterdir()} == set(after.values())


def test_workers_and_reruns_give_the_same_bytes(session, tmp_path):
    """With real alignments, in processes and in this one."""
    (session / "sub-1_FLAIR.nii.gz").unlink()
    sources = find_sources([session])
    lay(sources, tmp_path / "one")
    lay(sources, tmp_path / "two", workers=2)
    before = contents(tmp_path / "one")
    assert contents(tmp_path / "two") == before
    result = lay(sources, tmp_path / "one")
    assert (result.done, result.reused) == (3, 3)
    assert contents(tmp_path / "one") == before
