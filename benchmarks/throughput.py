"""Scans an hour by workers of this machine and through Dask; memory of a worker.

Run:  python benchmarks/throughput.py [--scans FOLDER] [--recipe NAME] [--spacing 2]
The ways take turns, so that a busy machine slows all alike. Each stages every scan
anew: reading, checking, preparing, writing the record; starting the processes counts,
starting Dask's scheduler and workers (two, of one thread each, on this machine) does
not. Without --scans it makes whole heads first: of noise (see prepare.py), of phantoms
for recipes that look for the brain. Each scan stands for itself, not for its session.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prepare import machine, write_heads
from throughput_work import stage_and_measure

from brainjax.records.runners import Outcome, Way, run_tasks
from brainjax.records.sources import Source, find_sources
from brainjax.records.staging import Job, Task
from brainjax.volume.recipe import AlignedRecipe, AnyRecipe, make_recipe


@contextlib.contextmanager
def dask(workers: int) -> Iterator[str]:
    """Gives the address of a scheduler of this machine that has so many workers."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(program: str, *words: str) -> None:
            line = [sys.executable, "-m", f"distributed.cli.dask_{program}", *words]
            process = subprocess.Popen(
                line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        note = Path(folder) / "scheduler.json"
        words = ("--host=127.0.0.1", "--port=0", f"--scheduler-file={note}")
        start("scheduler", "--no-dashboard", *words)
        while not note.exists() or not note.read_text().strip().endswith("}"):
            time.sleep(0.1)
        address = json.loads(note.read_text())["address"]
        for _ in range(workers):
            words = ("--nthreads=1", "--no-dashboard", f"--local-directory={folder}")
            start("worker", address, *words)
        _wait_for_workers(address, workers)
        yield address


def _wait_for_workers(address: str, workers: int) -> None:
    import distributed

    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=60)


class Run(NamedTuple):
    """One way's turn: scans an hour, processor seconds a scan, most bytes a worker."""

    rate: float
    cpu_s: float
    peak: int


def measure(sources: list[Source], recipe: AnyRecipe, way: Way) -> Run:
    """Stages all scans into an empty folder."""
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), recipe, None)
        job.staging.mkdir()
        began = time.perf_counter()
        run_tasks(
            partial(stage_and_measure, job),
            [Task(source) for source in sources],
            way,
            lambda _, outcome: found.append(outcome),
            shared=Path(folder),
        )
        took = time.perf_counter() - began
    bad = [o.error or o.result.reason for o in found if o.error or o.result.reason]
    if bad:
        raise SystemExit(f"wanted good scans, got {bad[0]}")
    return Run(
        3600 * len(sources) / took,
        statistics.fmean(outcome.result.cpu_s for outcome in found),
        max(outcome.result.peak for outcome in found),
    )


def compare(
    sources: list[Source], recipe: AnyRecipe, ways: dict[str, Way], repeats: int
) -> dict[str, dict[str, float]]:
    """Gives the summary of each way."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in list(ways) if repeat % 2 else list(ways)[::-1]:
            runs[name].append(measure(sources, recipe, ways[name]))
    return {name: summary(turns) for name, turns in runs.items()}


def summary(turns: list[Run]) -> dict[str, float]:
    """Gives the medians of a way's turns, and the range of its rate."""
    rates = [turn.rate for turn in turns]
    return {
        "median": round(statistics.median(rates)),
        "low": round(min(rates)),
        "high": round(max(rates)),
        "cpu_seconds": round(statistics.median(turn.cpu_s for turn in turns), 2),
        "peak_megabytes": round(max(turn.peak for turn in turns) / 1e6),
    }


def show(found: dict) -> None:
    """Prints the JSON and a table."""
    print(json.dumps(found, indent=2))
    print("\nway              scans/hour  range        CPU s/scan  MB a worker")
    for name, row in found["scans_per_hour"].items():
        span = f"{row['low']}-{row['high']}"
        cells = f"{row['median']:>10}  {span:<11}  {row['cpu_seconds']:>10.2f}"
        print(f"{name:<15}  {cells}  {row['peak_megabytes']:>11}")


def make_scans(folder: Path, count: int, recipe: AnyRecipe) -> None:
    """Writes heads in which the recipe finds what it looks for."""
    if not isinstance(recipe, AlignedRecipe):
        write_heads(folder, count)
        return
    from brainjax.phantom import cohort

    cohort(folder, subjects=count, spacing=2.0, head=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, help="a folder of raw scans")
    parser.add_argument("--recipe", default="canonical")
    parser.add_argument("--spacing", type=float, help="mm; the recipe's own if absent")
    parser.add_argument("--count", type=int, default=16, help="scans at the most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds a scan")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    recipe = make_recipe(options.recipe, spacing=options.spacing)
    with tempfile.TemporaryDirectory() as made, dask(2) as scheduler:
        if options.scans is None:
            make_scans(Path(made), options.count, recipe)
        sources = find_sources([options.scans or made])[: options.count]
        ways = {
            "1 local worker": Way(1, options.limit),
            "2 local workers": Way(2, options.limit),
            "2 Dask workers": Way(2, options.limit, scheduler=scheduler),
        }
        found = {
            "scans": len(sources),
            "megabytes": round(sum(os.path.getsize(s.path) for s in sources) / 1e6, 1),
            "recipe": recipe.describe(),
            "repeats": options.repeats,
            "machine": machine(),
            "load_before": round(os.getloadavg()[0], 2),
            "scans_per_hour": compare(sources, recipe, ways, options.repeats),
        }
    show(found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
