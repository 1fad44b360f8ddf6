"""Seconds from the command to the features of a scan, beside PyTorch and MONAI.

Run:  python benchmarks/embed.py SCAN... --peer-python ../monai-venv/bin/python
A checkpoint in BrainIAC's layout (ViT-B/16, random weights, 353 MB) is written to a
temporary folder; each side reads it, prepares the scans and writes a CSV, in a process
of its own, in turns. "cold" has an empty compilation cache, "warm" the one a first
call leaves (JAX_COMPILATION_CACHE_DIR); PyTorch compiles nothing. Without --peer-python
only our side runs. Both tables are compared: the largest difference of features is
given in units of their standard deviation.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from brainjax.interop.files import write_torch
from brainjax.interop.layouts import LAYOUTS


def write_checkpoint(path: Path) -> None:
    """Writes a ViT-B/16 of random weights as BrainIAC v2's base file is laid out."""
    random = np.random.default_rng(0)
    layout = LAYOUTS["vit"]
    arrays = {}
    for entry in layout.entries({"shape": 96, "patch": 16, "size": "B"}):
        array = random.standard_normal(entry.shape, np.float32)
        fan_in = int(np.prod(entry.shape[1:]))
        arrays[f"backbone.{entry.theirs}"] = array / np.float32(max(fan_in, 1) ** 0.5)
    write_torch(path, arrays, facts={"epoch": 199})


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Gives how long a command takes, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start


def read_features(path: Path) -> np.ndarray:
    """Gives the last 768 columns of a table, with a header or without."""
    with path.open() as file:
        rows = [row[-768:] for row in csv.reader(file)]
    return np.array([row for row in rows if row[0] != "feature_0"], np.float64)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Gives seconds by side and repeat; the sides take turns."""
    checkpoint, cache = folder / "BrainIAC.ckpt", folder / "cache"
    write_checkpoint(checkpoint)
    own = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    own["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    ours = [sys.executable, "-m", "brainjax.cli", "embed", str(checkpoint)]
    ours += [*options.scans, "--recipe", "brainiac_v2", "--pool", "first_token"]
    ours += ["--out", str(folder / "ours.csv")]
    script = str(Path(__file__).with_name("embed_peer.py"))
    peer = [options.peer_python, script, str(checkpoint), str(folder / "peer.csv")]
    found: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        shutil.rmtree(cache, ignore_errors=True)
        for name in ("brainjax, cold", "brainjax, warm"):
            found.setdefault(name, []).append(seconds(ours, own))
        if options.peer_python:
            took = seconds([*peer, *options.scans], dict(os.environ))
            found.setdefault("PyTorch + MONAI", []).append(took)
    if options.peer_python:
        a, b = (read_features(folder / name) for name in ("ours.csv", "peer.csv"))
        print(
            "largest difference / standard deviation: "
            f"{np.abs(a - b).max() / b.std():.2e}"
        )
    return found


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("--peer-python", help="an interpreter with torch and monai")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    print(f"{len(options.scans)} scans, {os.cpu_count()} cores, jax {jax.__version__}")
    for name, times in found.items():
        middle = statistics.median(times)
        print(f"{name}: {middle:.2f} s ({min(times):.2f}-{max(times):.2f})")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
