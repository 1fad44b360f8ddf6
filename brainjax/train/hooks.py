"""What happens besides stepping: progress, metrics, saving, stopping."""

import json
import logging
import math
import signal
from collections.abc import Callable, Iterable, Iterator
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
from brainjax.parallel import agreed_to_stop
from brainjax.records.writing import write_atomically
from brainjax.train.folder import RunFolder, finite
from brainjax.train.ledger import SPEEDS, TOTALS, Ledger
from brainjax.train.state import State

logger = logging.getLogger("brainjax")


class DivergedError(RuntimeError):
    """Training cannot go on: too many steps in a row were not finite."""


class Terminated(SystemExit):
    """SIGTERM arrived; the state is saved and the run can be resumed."""

    def __init__(self, step: int):
        super().__init__(128 + signal.SIGTERM)
        self.step = step


@contextmanager
def progress_bar(what: str, steps: int, log: "MetricLog") -> Iterator[Callable]:
    """Shows a bar with loss and costs on a terminal, else a line at each log point.

    Gives the hook. The lines go to the log "brainjax", which the command line shows;
    only the process that writes has any.
    """
    console = Console(stderr=True)
    if log.writing and log.ledger.basis():
        logger.info("%s: %s", what, log.ledger.basis())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    drawn = console.is_terminal and log.writing
    with Progress(*columns, console=console, disable=not drawn) as bar:
        row = bar.add_task(what, total=steps, completed=log.start, text="compiling")

        def show(step: int, state: State, metrics: dict) -> None:
            bar.update(row, completed=step, text=log.line())
            if log.writing and not drawn and step % log.every == 0:
                logger.info("%s %d/%d  %s", what, step, steps, log.line())

        yield show


class MetricLog:
    """Fetches metrics every so often and writes them to JSONL and TensorBoard.

    A resumed run drops the lines that the interrupted one wrote after its last
    checkpoint, so that no step stands in the file twice.

    Args:
      folder: where it writes.
      start: finished steps.
      every: steps between two lines.
      batch, views, flops: as in `Ledger`, which gives what a line says of costs.
      writing: False times all the same and touches no file; of several processes, one
        writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        start: int,
        every: int,
        batch: int,
        views: int = 1,
        flops: Callable[[], int] | None = None,
        writing: bool = True,
    ):
        self.path, self.every, self.start = folder.metrics, every, start
        self.writing = writing
        kept = _lines_until(self.path, start)
        if writing:
            from tensorboardX import SummaryWriter

            text = "".join(f"{line}\n" for line, _ in kept)
            if self.path.exists():
                write_atomically(self.path, text.encode())
            self.board = SummaryWriter(str(folder.tensorboard), purge_step=start + 1)
        before = _costs(row for _, row in kept)
        self.ledger = Ledger(batch=batch, views=views, flops=flops, before=before)
        self.latest: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds of training so far, interrupted parts included."""
        return self.ledger.seconds

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        if step % self.every:
            return
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.write(step, values | self.ledger.line())

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one line of values for a step, at once on disk."""
        self.latest |= values
        if not self.writing:
            return
        line = {"step": step, **values, "seconds": round(self.seconds, 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(finite(line)) + "\n")
        for name, value in values.items():
            if math.isfinite(value):  # a probe of two scans has no R2
                self.board.add_scalar(name, value, step)

    def line(self) -> str:
        """Gives the latest loss and costs in a few words."""
        shown = {name: self.latest.get(name) for name in SHOWN}
        return "  ".join(
            SHOWN[name].format(value)
            for name, value in shown.items()
            if value is not None
        )

    def close(self) -> None:
        """Writes what TensorBoard still holds back."""
        if self.writing:
            self.board.close()


SHOWN = {
    "loss": "loss {:.3f}",
    "views_per_second": "{:.4g} views/s",
    "mfu": "MFU {:.1%}",
    "input_wait_share": "wait {:.0%}",
}
"""What a line of progress shows, and how."""


def _lines_until(path: Path, step: int) -> list[tuple[str, dict]]:
    """Gives the lines up to a step, each with what it says, without a half-written."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            break  # The line that was being written when the run was killed.
        if row["step"] > step:
            break
        kept.append((line, row))
    return kept


def _costs(rows: Iterable[dict]) -> dict[str, float]:
    """The newest of what the lines of a run say of costs."""
    found: dict[str, float] = {}
    for row in rows:
        found |= {name: row[name] for name in (*SPEEDS, *TOTALS) if name in row}
    return found


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

    Of several processes all save the same step, whichever of them SIGTERM has reached.

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
        if jax.process_count() > 1:
            yield  # jax has taken the signal, to tell the other processes
            return

        def ask(signum, frame):
            self.asked_to_stop = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def __call__(self, step: int, state: State, metrics: dict) -> None:
        self.checkpoints.check()
        due = step % self.every == 0
        if jax.process_count() > 1:
            self.asked_to_stop = agreed_to_stop(step)
        if due or self.asked_to_stop:
            self.now(step, state, scored=due, wait=self.asked_to_stop)
        if self.asked_to_stop:
            logger.info(
                "stopped by SIGTERM: step %d is saved, and the same command goes on "
                "from it",
                step,
            )
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
