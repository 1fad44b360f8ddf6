"""Starts the command line as one or several processes of a run, for tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.train.configs import CONFIGS, tiny_words

ROOT = Path(__file__).parents[2]


def start(
    data: Path,
    run: Path,
    *words: str,
    processes: int = 1,
    devices: int = 1,
    only: dict[int, list[str]] | None = None,
) -> list[subprocess.Popen]:
    """Starts a tiny pretraining run; `only` gives further words to one process.

    Several processes have one device each: two can deadlock in gloo.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    config = ["--config", str(CONFIGS / "pretrain_vit_b.py"), "--workdir", str(run)]
    started = []
    for index in range(processes):
        joining = ["--coordinator", coordinator, "--processes", str(processes)]
        joining += ["--process-index", str(index)]
        command = [
            *(sys.executable, "-m", "brainjax.cli", "pretrain", *config),
            *(joining if processes > 1 else []),
            *tiny_words(data, *words),
            *(only or {}).get(index, []),
        ]
        started.append(
            subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def end(
    started: list[subprocess.Popen], timeout: float = 100
) -> list[tuple[int, list[str]]]:
    """Waits for all and gives exit code and stderr of each; leaves none running."""
    try:
        said = [process.communicate(timeout=timeout)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        (process.returncode, text.strip().splitlines() or [""])
        for process, text in zip(started, said, strict=True)
    ]


def send(
    started: list[subprocess.Popen], run: Path, *, to: int, sign: signal.Signals
) -> None:
    """Sends a signal to one process once the run has logged ten steps."""
    deadline = time.monotonic() + 100
    while len(logged(run)) < 10:
        assert time.monotonic() < deadline, "no ten steps in time"
        assert all(p.poll() is None for p in started), end(started)
        time.sleep(0.02)
    started[to].send_signal(sign)


def logged(run: Path) -> list[dict]:
    """Gives the lines of metrics with a loss, but one that is being written."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = (json.loads(line) for line in lines if line.endswith("\n"))
    return [row for row in rows if "loss" in row]


def losses(run: Path) -> list[float]:
    """Gives the loss of every step of a run that logs every step."""
    rows = logged(run)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def saved_steps(run: Path) -> list[int]:
    """Gives the steps with hashes."""
    found = (run / "checkpoints").glob("*/integrity.json")
    return sorted(int(path.parent.name) for path in found)


def flip_newest(run: Path) -> None:
    """Flips a bit in the largest array file of the newest step."""
    step = run / "checkpoints" / str(saved_steps(run)[-1])
    files = [path for path in step.rglob("d/*") if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))
