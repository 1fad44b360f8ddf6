"""Scans prepared per second, by one worker and by two.

Run:  python benchmarks/prepare.py [--scans FOLDER] [--spacing 2]
The repeats alternate between one worker and two, so that a busy machine slows both.
Each prepares every scan anew, reading, checking, shards and all; starting the worker
processes counts. Without --scans it makes whole heads of noise first: 1 mm, 192 x 224 x
224, int16, gzipped, the size of a research scan and as hard to unpack as any.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from brainjax.records.prepare import prepare
from brainjax.records.sources import Source, find_sources
from brainjax.volume.recipe import AnyRecipe, make_recipe

SHAPE = (192, 224, 224)
WORKERS = (1, 2)


def write_heads(folder: Path, count: int) -> None:
    """Writes `count` ellipsoid heads of coarse tissue in a noisy background."""
    centred = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in SHAPE]
    x, y, z = np.meshgrid(*centred, indexing="ij", sparse=True)
    inside = (x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.9) ** 2 < 1
    for number in range(count):
        rng = np.random.default_rng(number)
        tissue = np.kron(
            rng.uniform(200, 900, [n // 8 for n in SHAPE]).astype(np.float32),
            np.ones((8, 8, 8), np.float32),
        )
        noise = np.abs(rng.normal(0, 10, SHAPE).astype(np.float32))
        head = np.where(inside, tissue, 0) + noise
        image = nib.Nifti1Image(head.astype(np.int16), np.eye(4))
        nib.save(image, folder / f"sub-{number:03d}_T1w.nii.gz")


def seconds(sources: list[Source], recipe: AnyRecipe, workers: int) -> float:
    """Gives the time of one whole preparation into an empty folder."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        result = prepare(sources, out, recipe, workers=workers, progress=False)
        took = time.perf_counter() - began
    if result.failures:
        raise SystemExit(f"wanted good scans, got {result.failures[0]}")
    return took


def measure(sources: list[Source], recipe: AnyRecipe, repeats: int) -> dict:
    """Gives scans per second: median and range, by number of workers."""
    rates = {workers: [] for workers in WORKERS}
    for _ in range(repeats):
        for workers in WORKERS:
            rates[workers].append(len(sources) / seconds(sources, recipe, workers))
    return {
        workers: {
            "median": round(statistics.median(values), 2),
            "low": round(min(values), 2),
            "high": round(max(values), 2),
        }
        for workers, values in rates.items()
    }


def machine() -> str:
    """Gives the processor's name and the cores we may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def show(found: dict) -> None:
    """Prints the JSON and a table."""
    print(json.dumps(found, indent=2))
    print("\nworkers  scans/s  range")
    for workers, rate in found["scans_per_second"].items():
        low, high = rate["low"], rate["high"]
        print(f"{workers:>7}  {rate['median']:7.2f}  {low:.2f}-{high:.2f}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, help="a folder of raw scans")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm")
    parser.add_argument("--count", type=int, default=16, help="scans at the most")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    recipe = make_recipe(spacing=options.spacing)
    with tempfile.TemporaryDirectory() as made:
        if options.scans is None:
            write_heads(Path(made), options.count)
        sources = find_sources([options.scans or made])[: options.count]
        found = {
            "scans": len(sources),
            "megabytes": round(sum(os.path.getsize(s.path) for s in sources) / 1e6, 1),
            "spacing_mm": options.spacing,
            "shape": recipe.shape,
            "repeats": options.repeats,
            "machine": machine(),
            "load_before": round(os.getloadavg()[0], 2),
            "scans_per_second": measure(sources, recipe, options.repeats),
        }
    show(found)


if __name__ == "__main__":
    main()
