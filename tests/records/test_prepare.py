"""Preparing: the same bytes however it came about; a bad scan fails alone."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.records import publish as publish_module
from brainjax.records import staging as staging_module
from brainjax.records.prepare import prepare
from brainjax.records.sources import Source, find_sources
from brainjax.records.store import SHARD_RECORDS, open_dataset
from brainjax.volume.recipe import make_recipe, prepare_and_keep, prepare_volume

RECIPE = make_recipe(spacing=8.0)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run(sources, out, **keywords):
    return prepare(sources, out, RECIPE, progress=False, **keywords)


@pytest.fixture
def sources(tiny_cohort):
    return find_sources([tiny_cohort])


@pytest.fixture
def copied(tiny_prepared, tmp_path) -> Path:
    """A copy of the prepared cohort that a test may damage."""
    return Path(shutil.copytree(tiny_prepared, tmp_path / "copy"))


def damage(folder: Path) -> Path:
    """Overwrites bytes in the middle of the first record of the only shard."""
    (shard,) = folder.glob("shards-*/*.array_record")
    data = bytearray(shard.read_bytes())
    data[1000:1040] = b"\xff" * 40
    shard.write_bytes(data)
    return shard


def test_stored_volumes_are_what_prepare_volume_gives(tiny_prepared, sources):
    dataset = open_dataset(tiny_prepared)
    assert (len(dataset), dataset.shape) == (16, (24, 24, 24))
    assert dataset.recipe == RECIPE
    for record in (0, 15):
        row = dataset.rows[record]
        codes = prepare_volume(sources[record].path, RECIPE).codes
        assert row["source"] == sources[record].path
        np.testing.assert_array_equal(dataset.read(record), codes)
    assert dataset.rows[3]["record"] == 3
    assert dataset.rows[3]["recipe"] == RECIPE.hash
    assert dataset.labels("age") == [30 + 2 * n for n in range(16)]
    assert dataset.labels("sequence") == ["T1w"] * 16
    assert dataset.subject_ids.tolist() == list(range(16))
    with pytest.raises(InputRefusedError, match="wanted a label weight, got age, sex"):
        dataset.labels("weight")


def test_reading_from_threads_and_after_pickling(tiny_prepared):
    dataset = open_dataset(tiny_prepared)
    again = pickle.loads(pickle.dumps(dataset))
    with ThreadPoolExecutor(8) as pool:
        volumes = list(pool.map(dataset.read, list(range(16)) * 4))
    for record, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume, again.read(record % 16))
    with pytest.raises(IndexError):
        dataset.read(16)


def test_two_workers_write_the_same_bytes(
    tiny_prepared, sources, tiny_cohort, tmp_path
):
    labels = tiny_cohort / "participants.tsv"
    result = run(sources, tmp_path / "two", labels=labels, workers=2)
    assert result[:5] == (16, 16, 0, [], 0)
    assert contents(tmp_path / "two") == contents(tiny_prepared)


def test_more_scans_than_a_shard_holds(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("brainjax.records.store.SHARD_RECORDS", 3)
    run(sources[:7], tmp_path)
    names = sorted(path.name for path in tmp_path.glob("shards-*/*.array_record"))
    assert names == [f"volumes-{n:05d}-of-00003.array_record" for n in range(3)]
    dataset = open_dataset(tmp_path)
    for record in range(7):
        codes = prepare_volume(sources[record].path, RECIPE).codes
        np.testing.assert_array_equal(dataset.read(record), codes)
    assert SHARD_RECORDS == 64


def test_a_second_call_makes_nothing_and_changes_nothing(
    copied, sources, tiny_cohort, monkeypatch
):
    before = contents(copied)
    monkeypatch.setattr(staging_module, "prepare_and_keep", None)
    result = run(sources, copied, labels=tiny_cohort / "participants.tsv")
    assert result[:5] == (16, 16, 16, [], 0)
    assert contents(copied) == before


def test_killed_and_started_again(sources, tiny_cohort, tmp_path, tiny_prepared):
    """SIGKILL in the fifth scan: four are reused, the end is as if never killed."""
    script = f"""
import os, signal
from brainjax.records import staging
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.volume.recipe import make_recipe, prepare_and_keep
calls = []
def fifth_is_fatal(*words, **keywords):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare_and_keep(*words, **keywords)
staging.prepare_and_keep = fifth_is_fatal
prepare(find_sources([{str(tiny_cohort)!r}]), {str(tmp_path)!r},
        make_recipe(spacing=8.0), progress=False)
"""
    died = subprocess.run([sys.executable, "-c", script], check=False)
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(InputRefusedError, match=r"no dataset\.json"):
        open_dataset(tmp_path)
    result = run(sources, tmp_path, labels=tiny_cohort / "participants.tsv")
    assert result[:5] == (16, 16, 4, [], 0)
    assert contents(tmp_path) == contents(tiny_prepared)


ORPHANS = """
import sys, time
from brainjax.records import staging
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.volume.recipe import make_recipe, prepare_and_keep
def slow(*words, **keywords):
    time.sleep(0.3)
    return prepare_and_keep(*words, **keywords)
staging.prepare_and_keep = slow
if __name__ == "__main__":
    sources = find_sources([sys.argv[1]])
    prepare(sources, sys.argv[2], make_recipe(spacing=8.0), workers=2)
"""


def test_workers_end_with_a_killed_parent(sources, tiny_cohort, tmp_path):
    """Meanwhile nobody else may write there; afterwards the folder is free."""
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(ORPHANS)
    words = [sys.executable, str(script), str(tiny_cohort), str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        while not list(out.glob("staging/*.record")):
            assert parent.poll() is None
            time.sleep(0.02)
        with pytest.raises(InputRefusedError, match="another prepare is writing"):
            run(sources, out)
        parent.kill()
        parent.communicate(timeout=20)  # until the last holder of stdout has ended
    assert 1 <= run(sources, out).reused < 16


def test_workers_that_cannot_start_are_refused(sources, tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(ORPHANS.replace('__name__ == "__main__"', "True"))
    words = [sys.executable, str(script), str(Path(sources[0].path).parent)]
    ended = subprocess.run(
        [*words, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert "wanted worker processes, got none that starts" in ended.stderr


def test_killed_while_publishing(copied, sources, tiny_prepared, monkeypatch):
    """A manifest without its dataset.json is refused, and mended by a second call."""
    real = publish_module.write_atomically

    def fail(path, data):
        if path.name == "dataset.json":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr("brainjax.records.publish.write_atomically", fail)
    with pytest.raises(KeyboardInterrupt):
        run(sources[:5], copied)
    with pytest.raises(InputRefusedError, match="run prepare again"):
        open_dataset(copied)
    monkeypatch.undo()
    assert run(sources[:5], copied).reused == 5
    assert len(open_dataset(copied)) == 5
    assert len(list(copied.glob("shards-*"))) == 1


def test_scans_may_come_and_go(sources, tmp_path):
    run(sources[:3], tmp_path)
    assert run(sources[1:5], tmp_path)[:5] == (4, 4, 2, [], 0)
    dataset = open_dataset(tmp_path)
    assert [row["source"] for row in dataset.rows] == [s.path for s in sources[1:5]]
    codes = prepare_volume(sources[1].path, RECIPE).codes
    np.testing.assert_array_equal(dataset.read(0), codes)


def test_labels_change_without_redoing_volumes(copied, sources, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("subject,score\n00,1\n01,2.5\n02,n/a\n")
    assert run(sources, copied, labels=table).reused == 16
    assert open_dataset(copied).labels("score")[:4] == [1, 2.5, None, None]


def test_a_damaged_record_is_refused_alone_and_made_anew(
    copied, sources, tiny_cohort, tiny_prepared
):
    shard = damage(copied)
    dataset = open_dataset(copied)
    with pytest.raises(InputRefusedError, match=r"record 0 .*is damaged") as caught:
        dataset.read(0)
    assert str(shard) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dataset.read(1).max() == 255
    result = run(sources, copied, labels=tiny_cohort / "participants.tsv")
    assert result.reused == 15
    assert contents(copied) == contents(tiny_prepared)


def test_a_shard_cut_short(copied):
    (shard,) = copied.glob("shards-*/*.array_record")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(InputRefusedError, match="is damaged"):
        open_dataset(copied).read(0)
    shard.unlink()
    with pytest.raises(InputRefusedError, match="wanted a shard, got nothing"):
        open_dataset(copied)


def test_a_bad_scan_fails_alone(sources, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    scans = [*sources[:2], Source(str(bad)), Source(str(tmp_path / "gone.nii"))]
    result = run(scans, tmp_path / "out")
    assert (result.total, result.done) == (4, 2)
    assert [path for path, _ in result.failures] == [s.path for s in scans[2:]]
    table = (tmp_path / "out" / "failures.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in table] == [
        "path",
        *(s.path for s in scans[2:]),
    ]
    assert len(open_dataset(tmp_path / "out")) == 2
    run(sources[:2], tmp_path / "out")
    assert not (tmp_path / "out" / "failures.tsv").exists()


def test_nothing_good_is_refused_and_keeps_what_was_there(copied, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    with pytest.raises(InputRefusedError, match=r"1 that cannot, the first: .*bad"):
        run([Source(str(bad))], copied)
    assert len(open_dataset(copied)) == 16
    assert not (copied / "staging").exists()
    with pytest.raises(InputRefusedError, match="got 0 scans"):
        run([], copied)


def test_an_unforeseen_error_fails_alone(sources, tmp_path, monkeypatch):
    def fail(path, *words, **keywords):
        if path == sources[1].path:
            raise ZeroDivisionError("two\nlines")
        return prepare_and_keep(path, *words, **keywords)

    monkeypatch.setattr(staging_module, "prepare_and_keep", fail)
    result = run(sources[:3], tmp_path)
    reason = f"{sources[1].path}: ZeroDivisionError: two lines"
    assert result.failures == [(sources[1].path, reason)]


def test_a_dead_worker_takes_only_its_scan(sources, tmp_path, monkeypatch):
    """The processes are real; the deaths are of those that meet the fourth scan."""
    monkeypatch.setattr(staging_module, "stage", _fatal_fourth)
    result = run(sources[:6], tmp_path, workers=2)
    assert result.done == 5
    assert [path for path, _ in result.failures] == [sources[3].path]
    assert "killed process" in result.failures[0][1]


def _fatal_fourth(job, task):
    if "sub-03" in task.source.path:
        os.kill(os.getpid(), signal.SIGKILL)
    return staging_module.stage(job, task)


def test_another_recipe_is_refused_with_both_hashes_and_spacings(copied, sources):
    other = make_recipe(spacing=16.0)
    both = rf"12x12, 16 mm\) {other.hash}, .*24x24, 8 mm\) {RECIPE.hash}"
    with pytest.raises(InputRefusedError, match=both):
        prepare(sources, copied, other, progress=False)


def test_twins_are_both_kept_and_named(sources, tmp_path, caplog):
    twin = tmp_path / "sub-99_T1w.nii.gz"
    shutil.copy(sources[0].path, twin)
    result = run([sources[0], Source(str(twin), "99")], tmp_path / "out")
    assert result[:5] == (2, 2, 0, [], 0)
    dataset = open_dataset(tmp_path / "out")
    np.testing.assert_array_equal(dataset.read(0), dataset.read(1))
    assert len(set(dataset.subject_ids)) == 2
    assert f"{twin} has the content of {sources[0].path}" in caplog.text


def test_a_scan_without_subject_is_its_own(sources, tmp_path):
    first, second, third = (s._replace(subject=None) for s in sources[:3])
    run([first, second, third._replace(subject="a")], tmp_path)
    assert len(set(open_dataset(tmp_path).subject_ids)) == 3


def test_a_given_mask_is_used_and_part_of_the_key(sources, tmp_path):
    image = nib.Nifti1Image.from_filename(sources[0].path)
    ball = np.linalg.norm(np.indices((24,) * 3) - 11.5, axis=0) < 5
    mask = tmp_path / "ball.nii.gz"
    nib.save(nib.Nifti1Image(ball.astype(np.uint8), image.affine), mask)
    run(sources[:1], tmp_path / "out")
    result = run([sources[0]._replace(mask=str(mask))], tmp_path / "out")
    assert result.reused == 0
    dataset = open_dataset(tmp_path / "out")
    assert dataset.rows[0]["mask"] == "given"
    assert (dataset.read(0) > 0).sum() == ball.sum()


def test_no_prepared_data_set(tmp_path, copied):
    with pytest.raises(InputRefusedError, match=r"no dataset\.json"):
        open_dataset(tmp_path)
    facts = json.loads((copied / "dataset.json").read_text())
    (copied / "dataset.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(InputRefusedError, match="format 99"):
        open_dataset(copied)
    (copied / "dataset.json").write_text("{")
    with pytest.raises(InputRefusedError, match="other text"):
        open_dataset(copied)
    with pytest.raises(InputRefusedError, match="got a file"):
        run([Source("x.nii")], copied / "dataset.json")
