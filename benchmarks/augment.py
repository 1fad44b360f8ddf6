"""Augmented views per second, beside MONAI's same five operations, in one run.

Run:  python benchmarks/augment.py --peer-python ../monai-venv/bin/python
Both sides hold one 96-cube volume in memory, use two cores and do five operations at
p = 1 with matched strengths: affine, bias field, gamma, blur, noise. Ours also z-scores
and counts inside voxels only. The sides alternate, so that a busy machine slows both;
MONAI is measured as one process with two threads and as two processes, and compared by
the faster. Without --peer-python only our side runs.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from brainjax.augment import make_augmentation, random_views, view_keys

SIZE = 96
FIVE = make_augmentation(
    view=SIZE,
    crop=(1, 1),
    flip=0,
    brightness=0,
    contrast=0,
    bias_probability=1,
    gamma_probability=1,
    blur_probability=1,
    noise_probability=1,
)


def test_volume() -> np.ndarray:
    """Gives uint8 [96, 96, 96]: smooth random tissue in an ellipsoid."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(1, 255, (SIZE // 6,) * 3)
    tissue = np.kron(coarse, np.ones((6, 6, 6)))
    centred = (np.indices((SIZE,) * 3) - (SIZE - 1) / 2) / (SIZE / 2)
    inside = np.square(centred / [[[[0.75]]], [[[0.9]]], [[[0.7]]]]).sum(axis=0) < 1
    return np.where(inside, tissue, 0).astype(np.uint8)


class Ours:
    """Our chain, compiled once for a batch."""

    def __init__(self, codes: np.ndarray, batch: int):
        self.batch = batch
        self.codes = jnp.asarray(np.stack([codes] * batch))
        self.step = jax.jit(functools.partial(random_views, FIVE))
        self.done = 0

    def seconds(self, views: int) -> float:
        """Gives how long `views` take, new draws each."""
        start = time.perf_counter()
        for _ in range(views // self.batch):
            keys = view_keys(0, self.done + jnp.arange(self.batch), 0)
            jax.block_until_ready(self.step(self.codes, keys))
            self.done += self.batch
        return time.perf_counter() - start


class Peer:
    """MONAI in another interpreter, answering one line a command."""

    def __init__(self, python: str, codes: np.ndarray, folder: str):
        path = Path(folder) / "volume.npy"
        np.save(path, np.maximum(codes.astype(np.float32) - 1, 0) / 254)
        script = Path(__file__).with_name("augment_peer.py")
        self.process = subprocess.Popen(
            [python, str(script), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = json.loads(self._answer())

    def _answer(self) -> str:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit("the peer ended; its message is above")
        return line

    def seconds(self, form: str, views: int) -> float:
        """Gives how long the peer took for `views`."""
        self.process.stdin.write(f"{form} {views}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return float(self._answer())

    def close(self) -> None:
        """Ends the peer."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def spread(rates: list[float]) -> dict[str, float]:
    """Gives median, quartiles and extremes of views per second."""
    low, middle, high = statistics.quantiles(rates, n=4)
    names = ("median", "lower_quartile", "upper_quartile", "min", "max")
    values = (middle, low, high, min(rates), max(rates))
    return {name: round(v, 2) for name, v in zip(names, values, strict=True)}


def measure(sides: dict, repeats: int) -> dict[str, list[float]]:
    """Gives views per second of each side and repeat; the sides take turns."""
    rates = {name: [] for name in sides}
    for repeat in range(repeats):
        order = list(sides) if repeat % 2 else list(sides)[::-1]
        for name in order:
            run, views = sides[name]
            rates[name].append(views / run(views))
    return rates


def machine() -> str:
    """Gives the processor's name, the cores we may use and the device."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, jax on {jax.devices()[0].device_kind}"


def table(report: dict) -> str:
    """Gives the report as Markdown."""
    rows = [
        f"| {report['machine']} | views/s, median (quartiles; min-max) |",
        "|---|---|",
    ]
    for name, s in report["views_per_s"].items():
        quartiles = f"{s['lower_quartile']}-{s['upper_quartile']}"
        span = f"{s['min']}-{s['max']}"
        rows.append(f"| {name} | {s['median']} ({quartiles}; {span}) |")
    if "ratio" in report:
        rows.append(f"| ours / faster MONAI, median of repeats | {report['ratio']} |")
    return "\n".join(rows)


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="an interpreter with torch and monai")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peer-views", type=int, default=12, help="in each repeat")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    options = parser.parse_args()
    codes = test_volume()
    ours = Ours(codes, options.batch)
    ours.seconds(options.batch)  # Compiles.
    sides = {"brainjax": (ours.seconds, 4 * options.batch)}
    report = {"machine": machine(), "size": SIZE, "jax": jax.__version__}
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if options.peer_python:
            peer = Peer(options.peer_python, codes, folder)
            report |= peer.versions
            for form, label in (("one", "1 process"), ("two", "2 processes")):
                run = functools.partial(peer.seconds, form)
                sides[f"MONAI, {label}"] = (run, options.peer_views)
        rates = measure(sides, options.repeats)
        if peer:
            peer.close()
    report["views_per_s"] = {name: spread(values) for name, values in rates.items()}
    if peer:
        own, *others = rates.values()
        best = max(others, key=statistics.median)
        pairs = zip(own, best, strict=True)
        report["ratio"] = round(statistics.median(a / b for a, b in pairs), 2)
    print(table(report))
    if options.out:
        options.out.write_text(json.dumps(report | {"rates": rates}, indent=1))


if __name__ == "__main__":
    main()
