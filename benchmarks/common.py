"""What the benchmarks share: turns, summaries, peers in other interpreters, reports.

Nothing here needs jax before it is asked for, so that a peer's script, which runs under
an interpreter without jax, may use it too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Report = dict[str, Any]


def standard_arguments(parser: argparse.ArgumentParser, *, repeats: int = 7) -> None:
    """Adds the options every benchmark has."""
    add = parser.add_argument
    add("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: any accelerator")
    add("--cores", type=int, help="processor cores to use; 2 with cpu, all with gpu")
    add("--repeats", type=int, default=repeats)
    add("--out", type=Path, help="where the JSON goes")
    add("--peer-python", help="an interpreter with torch and monai")


def start(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line and settles cores and device, before jax looks at them.

    Raises SystemExit where an accelerator is wanted and there is none.
    """
    options = parser.parse_args()
    cores = options.cores or (2 if options.device == "cpu" else 0)
    if cores and hasattr(os, "sched_setaffinity"):
        # Peers inherit it, so that both sides have the same cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import jax

    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() == "cpu":
        raise SystemExit("--device gpu: wanted an accelerator, jax found none")
    return options


def by_device(options: argparse.Namespace, cpu: dict, gpu: dict) -> None:
    """Fills the options that were not given with the sizes for the device."""
    for name, value in (gpu if options.device == "gpu" else cpu).items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def machine() -> str:
    """Gives the processor's name, the cores we may use, and the accelerators."""
    import jax

    name, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if "model name" in line]
        name = models[0] if models else name
    cores = f"{name}, {_cores()} of {os.cpu_count()} cores"
    devices = jax.devices()
    if devices[0].platform == "cpu":
        return cores
    return f"{len(devices)} x {devices[0].device_kind}, {cores}"


def facts() -> Report:
    """Gives what every report begins with: machine, versions, how busy it is."""
    import jax

    return {
        "machine": machine(),
        "jax": jax.__version__,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def take_turns(
    sides: dict[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:
    """Gives what each side says, repeat by repeat; a busy machine slows all alike."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in list(sides) if repeat % 2 else list(sides)[::-1]:
            found[name].append(sides[name]())
    return found


def timed(function: Callable, *arguments: Any) -> Callable[[], float]:
    """Gives what calls a jax function once and says the seconds; called once before."""
    import jax

    def seconds() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        return time.perf_counter() - start

    seconds()
    return seconds


def summary(values: Iterable[float]) -> dict[str, float]:
    """Gives median, quartiles and extremes, to four digits."""
    values = list(values)
    middle = statistics.median(values)
    low, high = middle, middle
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    names = ("median", "lower_quartile", "upper_quartile", "min", "max")
    found = (middle, low, high, min(values), max(values))
    return {name: float(f"{v:.4g}") for name, v in zip(names, found, strict=True)}


def ratio(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Gives the summary of one / other, repeat by repeat."""
    return summary(ratios(ones, others))


def span(values: Iterable[float], scale: float = 1, digits: int = 2) -> str:
    """Gives "median (least-most)"."""
    values = [value * scale for value in values]
    found = (statistics.median(values), min(values), max(values))
    middle, least, most = (f"{value:.{digits}f}" for value in found)
    return f"{middle} ({least}-{most})"


def ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """Gives one / other, repeat by repeat: neighbours in time are slowed alike."""
    return [one / other for one, other in zip(ones, others, strict=True)]


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Gives a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(report: Report, out: Path | None) -> None:
    """Writes a report as JSON, where a place is given."""
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")


class Peer:
    """A script of `benchmarks/` in another interpreter, answering command by command.

    It says its versions first, then one line of JSON a command; `serve` is its half.
    """

    def __init__(self, python: str, script: str, *words: str):
        path = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [python, str(path), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions: dict[str, str] = self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer; SystemExit where the peer died."""
        self._process.stdin.write(json.dumps(command) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return self._answer()

    def close(self) -> None:
        """Ends the peer."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit("the peer ended; its message is above")
        return json.loads(line)


def serve(versions: dict[str, str], answer: Callable[..., dict[str, Any]]) -> None:
    """Answers the commands on standard input until it ends; a peer's half of `Peer`."""
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def head_like(size: int, seed: int = 0) -> np.ndarray:
    """Gives uint8 codes [size, size, size]: smooth random tissue in an ellipsoid."""
    random = np.random.default_rng(seed)
    cell = max(size // 16, 1)
    coarse = random.uniform(1, 255, (-(-size // cell),) * 3)
    tissue = np.kron(coarse, np.ones((cell,) * 3))[:size, :size, :size]
    # Scanners are not smooth: without noise a record would compress to nothing.
    tissue += random.normal(0, 4, tissue.shape)
    centred = (np.indices((size,) * 3) - (size - 1) / 2) / (size / 2)
    inside = np.square(centred / [[[[0.75]]], [[[0.9]]], [[[0.7]]]]).sum(axis=0) < 1
    return np.where(inside, np.clip(tissue, 1, 255), 0).astype(np.uint8)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Growth:
    """By how many bytes this process grew at its largest, since this was made."""

    def __init__(self):
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # The largest so far is now what it is now.
        except OSError:
            pass
        self._before = _resident("VmRSS")

    def bytes(self) -> int:
        """Gives the growth; 0 where the system does not tell."""
        return max(0, _resident("VmHWM") - self._before)


def _resident(name: str) -> int:
    try:
        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0
    return 1024 * int(lines[name].split()[0])
