"""Through Dask: the same outcomes as here, and one line for whatever is not there."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records import cluster as cluster_module
from brainjax.records import station
from brainjax.records.jobs import make_cluster, parse_cluster
from brainjax.records.runners import Outcome, Way, run_tasks
from tests.records.behaviours import ENDS, behave, leave_a_note, poisoned

pytest.importorskip("distributed", reason="the extra `dask` is not here")


def run(work, tasks, way, **keywords) -> dict[int, Outcome]:
    found = {}

    def done(position, outcome):
        assert position not in found
        assert threading.current_thread() is threading.main_thread()
        found[position] = outcome

    run_tasks(work, tasks, way, done, **keywords)
    return found


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with one worker, both in this process."""
    from distributed import LocalCluster

    words = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    made: Any = LocalCluster(dashboard_address=":0", **words)
    with made:
        yield made.scheduler_address
    station.dismiss()


@contextlib.contextmanager
def dask(folder: Path, workers: int):
    """Gives the address and processes of a real scheduler and its workers."""
    started, note = [], folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {**os.environ, "PYTHONPATH": os.getcwd()}

    def start(program: str, *words: str) -> None:
        line = [sys.executable, "-m", f"distributed.cli.dask_{program}", *words]
        started.append(subprocess.Popen(line, env=env, **quiet))  # type: ignore[call-overload]

    try:
        start(
            "scheduler",
            "--host=127.0.0.1",
            "--port=0",
            "--no-dashboard",
            f"--scheduler-file={note}",
        )
        while not (note.exists() and note.read_text().strip().endswith("}")):
            assert started[0].poll() is None
            time.sleep(0.05)
        address = note.read_text().split('"address": "')[1].split('"')[0]
        for _ in range(workers):
            start(
                "worker",
                address,
                "--nthreads=1",
                "--no-dashboard",
                f"--local-directory={folder}",
            )
        yield address, started
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in started:
            process.wait()


def test_bad_tasks_fail_alone(scheduler, tmp_path, monkeypatch):
    monkeypatch.setattr(station, "IDLE_S", 0.5)
    tasks = poisoned(["kill", "hang", "fail"], 9)
    way = Way(scheduler=scheduler, limit_s=1)
    found = run(partial(behave, str(tmp_path)), tasks, way, shared=tmp_path)
    for number, word in tasks:
        assert found[number].error == ENDS[word]
        assert found[number].result == (number * number if word == "good" else None)
    begun = {int(p.name): len(p.read_text().split()) for p in tmp_path.iterdir()}
    assert begun == {n: 2 if word == "kill" else 1 for n, word in tasks}
    pids = {p.read_text().split()[0] for p in tmp_path.iterdir()}
    assert str(os.getpid()) not in pids  # also the worker itself does none
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):  # all rest in the end
        assert time.monotonic() < end
        time.sleep(0.05)


def test_other_versions_are_refused(scheduler, monkeypatch):
    here = station.versions_here()
    monkeypatch.setattr(cluster_module, "versions_here", lambda: {**here, "numpy": "0"})
    with pytest.raises(
        InputRefusedError, match="wanted numpy 0, as here, got "
    ) as seen:
        run(len, ["a"], Way(scheduler=scheduler))
    assert "\n" not in str(seen.value)


def test_a_scheduler_of_another_version_is_refused(scheduler, monkeypatch):
    monkeypatch.setattr(cluster_module.metadata, "version", lambda _: "0.1")
    with pytest.raises(InputRefusedError, match=r"distributed 0\.1, got one of 20"):
        run(len, ["a"], Way(scheduler=scheduler))


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    (tmp_path / "shared.token").write_text("this word")
    parcel = station.Parcel(b"", None, ".", None, {})
    path = str(tmp_path / "shared.token")
    station.check_worker(parcel._replace(token=(path, "this word")))
    for token in ((path, "another"), (str(tmp_path / "no" / "token"), "this word")):
        with pytest.raises(InputRefusedError, match=r"shared by every machine, got"):
            station.check_worker(parcel._replace(token=token))
    with pytest.raises(InputRefusedError, match="wanted the folder on every worker"):
        station.start_there(b"", str(tmp_path / "no"))


@pytest.mark.parametrize("listens", [False, True])
def test_no_scheduler_is_told_soon(listens, monkeypatch):
    assert cluster_module.CONNECT_S < 10
    monkeypatch.setattr(cluster_module, "CONNECT_S", 0.7)
    with socket.socket() as silent:  # never says a word
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        port, began = silent.getsockname()[1], time.monotonic()
        with pytest.raises(
            InputRefusedError, match="wanted a Dask scheduler, got"
        ) as e:
            run(len, ["a"], Way(scheduler=f"tcp://127.0.0.1:{port}"))
        assert time.monotonic() - began < 5
        assert "\n" not in str(e.value)


def test_an_address_that_is_none():
    with pytest.raises(InputRefusedError, match="what://is:this: wanted a Dask sched"):
        run(len, ["a"], Way(scheduler="what://is:this"))


def test_a_scheduler_without_workers_is_refused(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster_module, "WORKERS_S", 0.2)
    made: Any = LocalCluster(n_workers=0, processes=False, dashboard_address=":0")
    with made, pytest.raises(InputRefusedError, match=r"without any for 0\.2 s"):
        run(len, ["a"], Way(scheduler=made.scheduler_address))


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"brainjax\[dask\]"):
        run(len, ["a"], Way(scheduler="tcp://127.0.0.1:1"))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(MissingExtraError, match="dask-jobqueue"):
        make_cluster(parse_cluster(Way(cluster="slurm")))


def test_what_a_job_is_given():
    pytest.importorskip("dask_jobqueue")
    text = (
        "slurm:queue=short,walltime=02:00:00,memory=3GB,jobs=20,workers=2,interface=lo"
    )
    jobs = parse_cluster(Way(cluster=text))
    assert jobs.jobs == 20
    with make_cluster(jobs) as made:
        assert made.scheduler.allowed_failures == 2
        script = made.job_script().splitlines()
    for line in ("-p short", "-t 02:00:00", "--cpus-per-task=2", "-n 1", "--mem=6G"):
        assert f"#SBATCH {line}" in script
    assert "dask_worker tcp://127.0.0.1:" in script[-1]
    assert "--nthreads 1 " in script[-1]
    assert "--nworkers 2 " in script[-1]


def test_words_of_a_cluster():
    said = parse_cluster(Way(workers=6, memory_bytes=10**9, cluster="slurm:workers=2"))
    assert said == (
        "SLURMCluster",
        3,
        {"cores": 2, "processes": 2, "memory": "2000000000 B"},
    )
    for text, error in {
        "sl": "wanted a cluster of slurm, got sl",
        "slurm:que=a": r"got que=a \(did you mean queue\?\)",
        "slurm:queue": "as name=value, got queue",
        "slurm:jobs=0": "jobs: wanted a number from 1, got 0",
        "slurm:memory=lots": "memory: wanted as 4GB, got lots",
    }.items():
        with pytest.raises(InputRefusedError, match=error):
            parse_cluster(Way(cluster=text))


def worker_pids() -> dict[int, int]:
    """Process by its number: the parent's. Of Dask's workers, not of their nannies."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            found[int(status.parent.name)] = int(lines["PPid"])
    return found


def below(nanny: int) -> list[int]:
    """The worker processes of a nanny: the tracker of resources is none."""
    return [
        pid
        for pid, parent in worker_pids().items()
        if parent == nanny
        and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.slow
def test_two_real_workers_one_of_which_is_killed(tmp_path):
    """Its tasks go to the other; with bad ones among them the list is complete."""
    notes = tmp_path / "notes"
    notes.mkdir()
    tasks = poisoned(["kill", "crash", "exit", "hang", "fail"] * 2, 40)
    with dask(tmp_path, 2) as (address, processes):
        threading.Timer(6, lambda: os.kill(below(processes[1].pid)[0], 9)).start()
        way = Way(scheduler=address, limit_s=1)
        found = run(partial(behave, str(notes)), tasks, way, shared=tmp_path)
    assert sorted(found) == list(range(40))
    for number, word in tasks:
        assert found[number].error == ENDS[word]
        assert found[number].result == (number * number if word == "good" else None)


DRIVER = """
import sys
from functools import partial
from brainjax.records.runners import Way, run_tasks
from tests.records.behaviours import leave_a_note
if __name__ == "__main__":
    folder, address = sys.argv[1:]
    tell = lambda position, outcome: print(position, outcome.error, flush=True)
    run_tasks(partial(leave_a_note, folder), range(30), Way(scheduler=address), tell)
"""


@pytest.mark.slow
def test_a_killed_driver_and_a_killed_scheduler(tmp_path):
    """Started again each goes on from the files; at the end nothing is missing."""
    notes, script = tmp_path / "notes", tmp_path / "driver.py"
    notes.mkdir()
    script.write_text(DRIVER)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    with dask(tmp_path, 2) as (address, processes):
        words = [sys.executable, str(script), str(notes), address]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=env) as driver:
            assert driver.stdout is not None
            for _ in range(5):
                driver.stdout.readline()
            driver.kill()
        threading.Timer(2.5, processes[0].kill).start()
        lost = r"got none any more after \d+ of 200 tasks; what is done stays"
        with pytest.raises(InputRefusedError, match=lost) as caught:
            run(partial(leave_a_note, str(notes)), range(200), Way(scheduler=address))
        assert "\n" not in str(caught.value)
    before = len(list(notes.glob("*.note")))
    assert 5 <= before < 200
    again = tmp_path / "again"
    again.mkdir()
    with dask(again, 2) as (address, _):
        found = run(
            partial(leave_a_note, str(notes)), range(60), Way(scheduler=address)
        )
    assert found == {n: Outcome(n) for n in range(60)}
    assert {p.stem for p in notes.glob("*.note")} >= {str(n) for n in range(60)}
    assert not list(notes.glob("*.half"))


@pytest.mark.parametrize("there", [True, False])
def test_a_queue_that_refuses_is_told_soon(there, tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    if there:
        text = "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n"
        (tmp_path / "sbatch").write_text(text)
        (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    reason = "sbatch: error: invalid partition" if there else "No such file"
    began, way = time.monotonic(), Way(cluster="slurm:jobs=2,interface=lo")
    with pytest.raises(InputRefusedError, match=f"first: sbatch: .*{reason}") as seen:
        run(len, ["a"], way, shared=tmp_path)
    assert time.monotonic() - began < 10
    assert "\n" not in str(seen.value)


SBATCH = """#!/bin/sh
for last; do :; done
sh "$last" > /dev/null 2>&1 &
echo $! >> "$0.pids"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do pkill -P "$job"; kill "$job"; done
exit 0
"""


@pytest.mark.slow
def test_slurm_with_commands_that_only_look_like_it(tmp_path, monkeypatch):
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path)
    way = Way(cluster="slurm:jobs=2,memory=1GB,interface=lo")
    found = run(len, ["a", "bb", "ccc"], way, shared=tmp_path)
    assert found == {0: Outcome(1), 1: Outcome(2), 2: Outcome(3)}
    jobs = (tmp_path / "sbatch.pids").read_text().split()
    assert len(jobs) == 2
    end = time.monotonic() + 20
    while any(Path(f"/proc/{job}").exists() for job in jobs):
        assert time.monotonic() < end
        time.sleep(0.1)
