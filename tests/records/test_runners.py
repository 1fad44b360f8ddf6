"""Many tasks: each told once, whatever becomes of its process."""

import os
import resource
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from brainjax.errors import InputRefusedError
from brainjax.records import memory
from brainjax.records.runners import Outcome, Way, check_way, run_tasks
from brainjax.records.sources import find_sources
from brainjax.records.staging import Job, Staged, Task, stage
from brainjax.volume.recipe import make_recipe
from tests.records.behaviours import ENDS, behave, kill_neighbour, poisoned


def run(work, tasks, way, **keywords) -> dict[int, Outcome]:
    """Gives the outcomes; each told once, in this thread."""
    found = {}

    def done(position, outcome):
        assert position not in found
        assert threading.current_thread() is threading.main_thread()
        found[position] = outcome

    run_tasks(work, tasks, way, done, **keywords)
    return found


def check_batch(tasks, folder: Path, way: Way) -> None:
    """Nothing lost, nothing told twice, the good ones done once."""
    found = run(partial(behave, str(folder)), tasks, way)
    assert sorted(found) == list(range(len(tasks)))
    for number, word in tasks:
        assert found[number].error == ENDS[word]
        assert found[number].result == (number * number if word == "good" else None)
    begun = {int(p.name): len(p.read_text().split()) for p in folder.iterdir()}
    assert begun == {n: 2 if word == "kill" else 1 for n, word in tasks}


def test_bad_tasks_fail_alone(tmp_path):
    words = ["kill", "exit", "hang", "fail"]
    check_batch(poisoned(words, 12), tmp_path, Way(workers=2, limit_s=1))


@pytest.mark.slow
def test_twenty_bad_tasks_in_a_hundred(tmp_path):
    words = ["kill", "crash", "exit", "hang", "fail"] * 4
    check_batch(poisoned(words, 100), tmp_path, Way(workers=2, limit_s=1))


def test_one_worker_without_a_limit_works_in_this_process(tmp_path):
    tasks = poisoned(["fail"], 3)
    ready = []
    found = run(
        partial(behave, str(tmp_path)), tasks, Way(), setup=lambda: ready.append(1)
    )
    assert ready == [1]
    assert [found[n].error for n in range(3)] == ["ValueError: two lines", None, None]
    assert (tmp_path / "1").read_text() == f"{os.getpid()}\n"
    assert run(behave, [], Way(workers=4)) == {}


def test_a_killed_worker_loses_nothing(tmp_path):
    """Its scan is done when the others are through."""
    found = run(partial(kill_neighbour, str(tmp_path)), range(4), Way(workers=2))
    assert found == {n: Outcome(n) for n in range(4)}


def test_what_the_caller_raises_ends_the_processes():
    def stop(position, outcome):
        raise KeyboardInterrupt

    began, before = time.monotonic(), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run_tasks(time.sleep, [0, 60], Way(workers=2), stop)
    assert time.monotonic() - began < 20
    assert set(threading.enumerate()) <= before  # Dask's tests leave some


def test_a_process_that_does_not_start_is_refused():
    with pytest.raises(InputRefusedError, match="got none that starts"):
        run(len, ["a", "b"], Way(workers=2), setup=partial(os._exit, 1))


def small_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_full_disk_leaves_no_half_record(tiny_cohort, tmp_path):
    """Every scan fails with a line, and the next call with room makes them all."""
    recipe = make_recipe(spacing=8.0)
    job = Job(tmp_path, recipe, None)
    job.staging.mkdir()
    tasks = [Task(source) for source in find_sources([tiny_cohort])[:2]]
    way = Way(limit_s=60)
    full = run(partial(stage, job), tasks, way, setup=small_disk)
    for outcome in full.values():
        assert isinstance(outcome.result, Staged)
        assert "File too large" in outcome.result.reason
    assert not list(job.staging.glob("*.record"))
    mended = run(partial(stage, job), tasks, way)
    assert all(outcome.result.key for outcome in mended.values())
    assert len(list(job.staging.glob("*.record"))) == 2


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_memory_that_is_left(tmp_path):
    assert memory.available_bytes(tmp_path) is None
    write(tmp_path / "proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 4000 kB\n")
    assert memory.available_bytes(tmp_path) == 4_096_000
    write(tmp_path / "proc/self/cgroup", "0::/job/step\n")
    groups = tmp_path / "sys/fs/cgroup"
    write(groups / "job/step/memory.max", "max\n")
    write(groups / "job/memory.max", "3000000\n")
    write(groups / "job/memory.current", "2500000\n")
    write(groups / "job/memory.stat", "anon 7\ninactive_file 400000\n")
    assert memory.available_bytes(tmp_path) == 900_000
    write(tmp_path / "proc/self/cgroup", "9:cpu,memory:/box\n0::/\n")
    write(groups / "memory/box/memory.limit_in_bytes", "2000000\n")
    write(groups / "memory/box/memory.usage_in_bytes", "1500000\n")
    write(groups / "memory/box/memory.stat", "total_inactive_file 100000\n")
    assert memory.available_bytes(tmp_path) == 600_000


def test_fewer_workers_where_memory_is_small(monkeypatch, caplog):
    monkeypatch.setattr(memory, "available_bytes", lambda: 5_000_000_000)
    assert memory.fit_workers(4, 1_000_000_000) == 4
    assert not caplog.text
    assert memory.fit_workers(4, 2_000_000_000) == 2
    assert "2 workers instead of 4" in caplog.text
    assert memory.fit_workers(4, 9_000_000_000) == 1
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert memory.fit_workers(4, 9_000_000_000) == 4


@pytest.mark.parametrize(
    "words",
    [{"scheduler": "nonsense"}, {"scheduler": "tcp://host"}, {"cluster": "foo"}],
)
def test_words_that_name_no_scheduler_are_refused(words):
    with pytest.raises(InputRefusedError, match=r"wanted (an address|slurm)"):
        check_way(Way(**words))
    check_way(Way(scheduler="tcp://10.0.0.1:8786", cluster="slurm:jobs=2"))
