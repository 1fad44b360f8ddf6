"""What happens besides stepping: progress, metrics, saving, stopping."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from brainjax.checkpoint import Checkpoints
from brainjax.records.store import write_atomically
from brainjax.train.folder import RunFolder, finite
from brainjax.train.state import State


class DivergedError(RuntimeError):
    """Training cannot go on: too many steps in a row were not finite."""


class Terminated(SystemExit):
    """SIGTERM arrived; the state is saved and the run can be resumed."""

    def __init__(self, step: int):
        super().__init__(128 + signal.SIGTERM)
        self.step = step


@contextmanager
def progress_bar(what: str, steps: int, log: "MetricLog") -> Iterator[Callable]:
    """Shows a bar with the loss and the speed on a terminal; gives the hook."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task(what, total=steps, completed=log.start, text="compiling")

        def show(step: int, state: State, metrics: dict) -> None:
            bar.update(row, completed=step, text=log.line())

        yield show


class MetricLog:
    """Fetches metrics every so often and writes them to JSONL and TensorBoard.

    A resumed run drops the lines that the interrupted one wrote after its last
    checkpoint, so that no step stands in the file twice.
    """

    def __init__(self, folder: RunFolder, *, start: int, every: int, batch: int):
        from tensorboardX import SummaryWriter

        self.path, self.every, self.batch = folder.metrics, every, batch
        self.seconds_before = _keep_lines_until(self.path, start)
        self.board = SummaryWriter(str(folder.tensorboard), purge_step=start + 1)
        self.start, self.began = start, time.perf_counter()
        self.marked_step, self.marked_time = start, self.began
        self.latest: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds of training so far, interrupted parts included."""
        return self.seconds_before + time.perf_counter() - self.began

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        if step % self.every:
            return
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()
        scans = (step - self.marked_step) * self.batch
        values["scans_per_second"] = scans / (now - self.marked_time)
        self.marked_step, self.marked_time = step, now
        self.write(step, values)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one line of values for a step, at once on disk."""
        self.latest |= values
        line = {"step": step, **values, "seconds": round(self.seconds, 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(finite(line)) + "\n")
        for name, value in values.items():
            if math.isfinite(value):  # a probe of two scans has no R2
                self.board.add_scalar(name, value, step)

    def line(self) -> str:
        """Gives the latest loss and speed in a few words."""
        if "loss" not in self.latest:
            return ""
        speed = self.latest["scans_per_second"]
        return f"loss {self.latest['loss']:.3f}  {speed:.1f} scans/s"

    def close(self) -> None:
        """Writes what TensorBoard still holds back."""
        self.board.close()


def _keep_lines_until(path: Path, step: int) -> float:
    """Drops lines after a step and any half-written one; gives the seconds so far."""
    if not path.exists():
        return 0.0
    kept, seconds = [], 0.0
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # The line that was being written when the run was killed.
        if row["step"] > step:
            break
        kept.append(line)
        seconds = row["seconds"]
    write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
    return seconds


class StopWhenDiverged:
    """Stops a run whose steps stay non-finite, with what to try."""

    def __init__(self, log: MetricLog, *, patience: int):
        self.log, self.patience = log, patience

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        if step % self.log.every:
            return
        in_a_row = int(self.log.latest["skipped_in_a_row"])
        if in_a_row >= self.patience:
            raise DivergedError(
                f"stopped at step {step}: the last {in_a_row} steps gave a loss or "
                "gradient that is not finite; the parameters are those before them. "
                "Lower optimizer.peak, raise optimizer.warmup or loss.temperature"
            )


class Save:
    """Saves every so often, and at once when SIGTERM has arrived.

    Args:
      checkpoints: where to.
      extra: the JSON dict that goes with every step.
      every: steps between two saves.
      measure: gives the score of (step, state) where the best step is to be kept.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        extra: dict,
        *,
        every: int,
        measure: Callable[[int, State], float] | None = None,
    ):
        self.checkpoints, self.extra, self.every = checkpoints, extra, every
        self.measure = measure
        self.asked_to_stop = False
        self.latest = -1

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """While inside, SIGTERM asks the run to save after the step it is in."""

        def ask(signum, frame):
            self.asked_to_stop = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        due = step % self.every == 0
        if due or self.asked_to_stop:
            self.now(step, state, scored=due, wait=self.asked_to_stop)
        if self.asked_to_stop:
            raise Terminated(step)

    def now(
        self, step: int, state: State, *, scored: bool = True, wait: bool = True
    ) -> None:
        """Saves this step if it is not there yet.

        An unscored step is never the best: when SIGTERM comes must not decide which
        step a run answers with.
        """
        if wait:
            self.checkpoints.wait()
        if step == self.latest or step in self.checkpoints.steps():
            return
        self.latest = step
        scores = None
        if self.measure and scored:
            scores = {"score": self.measure(step, state)}
        self.checkpoints.save(step, state, self.extra, metrics=scores, wait=wait)
