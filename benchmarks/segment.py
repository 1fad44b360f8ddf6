"""Seconds from a whole head to its outlines on its own grid, beside MONAI's UNETR.

    python benchmarks/segment.py RUN... --scan HEAD.nii.gz \\
        --peer-python ../monai/bin/python

Every side is the whole command, in a process of its own, in turns: it starts, reads the
scan, answers, and writes NIfTI. "first" has an empty compilation cache, "cold" the one
that a first call leaves; "warm" is a scan more in a process that answered before.
The peer, whose weights are random, slides windows of 96 cubed over the scan at 1 mm;
brainjax's runs answer at their recipe's spacing, in one pass.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Report, facts, span, table, write


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        found, peers = measure(options, Path(folder))
    found |= {f"{run.name}, warm": warm(run, options) for run in options.runs}
    report: Report = {**facts(), "seconds": found, "peer": peers}
    lines = [[name, span(values), len(values)] for name, values in found.items()]
    print(table(["", "s, median (range)", "n"], lines))
    peer = found.get(PEER, [])
    for name, values in found.items():
        if peer and name != PEER:
            ratio = statistics.median(peer) / statistics.median(values)
            print(f"{PEER} / {name}: {ratio:.1f}")
    write(report, options.out)


PEER = "MONAI UNETR, sliding window"


def measure(
    options: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[float]], list[Report]]:
    """Gives seconds by side, repeat by repeat, and what the peer says of its own."""
    found: dict[str, list[float]] = {}
    said: list[Report] = []
    cache = folder / "cache"
    own = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    for repeat in range(options.repeats):
        for run in options.runs:
            shutil.rmtree(cache, ignore_errors=True)
            command = [sys.executable, "-m", "brainjax.cli", "segment", str(run)]
            command += [str(options.scan), "--out"]
            for name in ("first", "cold"):
                out = folder / f"{run.name}_{name}_{repeat}"
                took, _ = seconds([*command, str(out)], own)
                found.setdefault(f"{run.name}, {name}", []).append(took)
        if options.peer_python and repeat < options.peer_repeats:
            script = str(Path(__file__).with_name("segment_peer.py"))
            words = [str(options.scan), str(folder / "peer.nii.gz"), options.overlap]
            took, text = seconds(
                [options.peer_python, script, *words], dict(os.environ)
            )
            found.setdefault(PEER, []).append(took)
            said.append(json.loads(text.splitlines()[-1]))
    return found, said


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Gives how long a command takes, and what it says on its standard output."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return took, done.stdout


def warm(run: Path, options: argparse.Namespace) -> list[float]:
    """Gives seconds a scan in one process, from the second scan on; nothing written."""
    from brainjax.infer.segment import Segment

    suffix = "".join(options.scan.suffixes)
    with tempfile.TemporaryDirectory() as folder:
        scans = [Path(folder) / f"{n}{suffix}" for n in range(options.repeats + 1)]
        for scan in scans:
            shutil.copy(options.scan, scan)
        answers = Segment(run, [str(scan) for scan in scans])
        ends = [time.perf_counter() for _ in answers]
    return [after - before for before, after in itertools.pairwise(ends)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN")
    add("--scan", type=Path, required=True)
    add("--repeats", type=int, default=5)
    add("--peer-python", help="an interpreter with torch and monai")
    add("--peer-repeats", type=int, default=1, help="it takes minutes on two cores")
    add("--overlap", default="0.25", help="of the peer's windows")
    add("--out", type=Path, help="where the JSON goes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
