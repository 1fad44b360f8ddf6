"""Sessions at predict are what they were at prepare; DICOM folders are answered."""

import csv
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brainjax.cli import main
from brainjax.errors import InputRefusedError
from brainjax.infer.scans import Prepared, list_scans, prepare_scans
from brainjax.infer.sessions import Sessions
from brainjax.interop import convert, make_statement
from brainjax.records.sources import Source, find_sources
from brainjax.records.store import open_dataset
from brainjax.volume.canonical import Canonical
from tests.conftest import write_scan
from tests.interop.foreign import lightning
from tests.records.lying import RECIPE, lay
from tests.volume import scans
from tests.volume.dicoms import oblique, write_series


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """Two scans of one session, the second turned, and one that stands alone."""
    home = tmp_path_factory.mktemp("session")
    write_scan(home / "sub-1_FLAIR.nii.gz", seed=1)
    write_scan(home / "sub-1_T1w.nii.gz", seed=1, size=1.02)
    write_scan(home / "sub-2_T2w.nii.gz", seed=2)
    return home


def test_the_codes_are_those_of_prepare_byte_for_byte(session, tmp_path):
    sources = find_sources([session])
    lay(sources, tmp_path)
    dataset = open_dataset(tmp_path)
    assert [s.sequence for s in sources] == ["FLAIR", "T1w", "T2w"]
    assert dataset.rows[0]["mask"] == "session"
    found = list(prepare_scans(list_scans([str(session)]), RECIPE, workers=2))
    for record, scan in enumerate(found):
        assert (scan.source.path, scan.reason) == (sources[record].path, "")
        np.testing.assert_array_equal(scan.codes, dataset.read(record))


def test_the_next_best_lends_where_the_reference_is_refused(session, tmp_path):
    (tmp_path / "sub-1_T1w.nii.gz").write_bytes(b"no image")
    for name in ("sub-1_T2w", "sub-1_FLAIR"):
        write_scan(tmp_path / f"{name}.nii.gz", seed=1)
    sources = find_sources([tmp_path])
    sessions = Sessions(sources, RECIPE, None)
    places = {s.sequence: n for n, s in enumerate(sources)}
    assert sessions.prepare(places["FLAIR"]).provenance["mask"] == "session"
    with pytest.raises(InputRefusedError, match="sub-1_T1w"):
        sessions.prepare(places["T1w"])
    assert sessions.prepare(places["T2w"]).provenance["mask"] == "nonzero"


class Lent:
    """A reference that can be counted."""


def by_sequence(subjects: int) -> list[Source]:
    """All T1w scans, then all T2w, then all FLAIR."""
    return [
        Source(f"{sequence}/{number}", f"sub-{number}", "1", sequence)
        for sequence in ("T1w", "T2w", "FLAIR")
        for number in range(subjects)
    ]


def test_few_sessions_are_held_however_scans_are_listed(monkeypatch):
    alive: weakref.WeakSet[Lent] = weakref.WeakSet()

    def lend(self, position, volume, kept):
        alive.add(lent := Lent())
        return lent

    volume = Canonical(np.zeros((2, 2, 2), np.uint8), np.eye(4), {})
    monkeypatch.setattr(Sessions, "_prepare", lambda *words: (volume, "kept"))
    monkeypatch.setattr(Sessions, "_lend", lend)
    sources, most, seen = by_sequence(12), 0, []
    for source, _, reason, _ in prepare_scans(sources, RECIPE):
        assert reason == ""
        seen.append(source)
        most = max(most, len(alive))
    assert most <= 2
    assert sorted(seen) == sorted(sources)
    assert seen[:3] == sources[::12]


def test_answers_come_in_the_order_of_the_list(monkeypatch):
    sources = by_sequence(4)

    def mixed(given, recipe, **words):
        for source in sorted(given, key=lambda s: s.subject):
            refused = source.path == "T2w/2" or source.path == "T1w/3"
            codes = None if refused else np.full(1, given.index(source))
            yield Prepared(source, codes, "odd" if refused else "")

    embed = import_module("brainjax.infer.embed")
    monkeypatch.setattr(embed, "prepare_scans", mixed)
    monkeypatch.setattr(embed, "make_encode", lambda *words, **more: None)
    monkeypatch.setattr(
        embed, "encode_scans", lambda *words, **more: np.stack(list(words[3]))
    )
    run: Any = SimpleNamespace(
        recipe=RECIPE, graphdef=None, view=None, params=None, batch_stats=None
    )
    done, outputs, failures = embed.encode_sources(run, sources)
    assert failures == [("T1w/3", "odd"), ("T2w/2", "odd")]
    assert done == [
        source for source in sources if (source.path, "odd") not in failures
    ]
    assert [sources[number] for number in outputs[:, 0]] == done


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of a tiny network that answers an age, at 6 mm."""
    home = tmp_path_factory.mktemp("run")
    stated = make_statement(
        recipe="canonical",
        spacing=6.0,
        settings=["heads=3"],
        origin="brainiac_v2",
        task="regression",
        target="age",
        unit="years",
    )
    convert(lightning(home / "age.ckpt", twin=False), home / "run", stated)
    return home / "run"


@pytest.mark.parametrize("verb", ["embed", "predict"])
def test_a_dicom_folder_is_answered_as_its_nifti_twin(verb, run, tmp_path):
    affine = oblique(scans.affine())
    series = write_series(tmp_path / "series", affine=affine)
    twin = scans.write(tmp_path / "sub-1_T1w.nii.gz", matrix=affine)
    out = tmp_path / "out.csv"
    words = [verb, str(run), str(series), str(twin), "--out", str(out)]
    assert main(words) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [str(series), str(twin)]
    wanted = "prediction" if verb == "predict" else "feature_"
    for name in rows[0]:
        if name.startswith(wanted):
            one, other = (float(row[name]) for row in rows)
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
