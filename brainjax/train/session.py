"""One run from start or resume to its last checkpoint; shared by every kind of run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from brainjax.checkpoint import Checkpoints
from brainjax.train.folder import RunFolder
from brainjax.train.hooks import MetricLog, Save, StopWhenDiverged, progress_bar
from brainjax.train.loop import Hook, train
from brainjax.train.restore import BEST
from brainjax.train.state import Blueprint, State


class Session:
    """A run that is about to start, or to go on from its newest intact checkpoint.

    Args:
      folder: where it writes.
      blueprint: of its state.
      extra: what goes into every checkpoint beside the arrays.
      steps: length of the whole run.
      batch: scans in a step, over all devices.
      log_every, save_every: steps between two lines of metrics, two checkpoints.
      patience: how many steps in a row may be non-finite.
      start: gives the first state; the blueprint's initialisation if None.
      measure: score of (step, state) for runs that keep their best step.
    """

    def __init__(
        self,
        folder: RunFolder,
        blueprint: Blueprint,
        extra: dict[str, Any],
        *,
        steps: int,
        batch: int,
        log_every: int = 10,
        save_every: int = 100,
        patience: int = 50,
        start: Callable[[], State] | None = None,
        measure: Callable[[int, State], float] | None = None,
    ):
        self.steps, self.batch, self.patience = steps, batch, patience
        self.mesh = blueprint.mesh
        self.checkpoints = Checkpoints(folder.checkpoints, best=BEST[extra["kind"]])
        if self.checkpoints.latest() is None:
            self.state = (start or blueprint.initialise)()
        else:
            self.state = self.checkpoints.restore(blueprint.abstract).state
        self.start = int(self.state["step"])
        self.log = MetricLog(folder, start=self.start, every=log_every, batch=batch)
        self.save = Save(self.checkpoints, extra, every=save_every, measure=measure)

    def run(
        self, update: Callable, batches: Iterator, hooks: Sequence[Hook] = ()
    ) -> State:
        """Trains to the last step and saves it, whatever `save_every` says."""
        kind = self.save.extra["kind"]
        guard = StopWhenDiverged(self.log, patience=self.patience)
        with self.save.on_sigterm(), progress_bar(kind, self.steps, self.log) as show:
            self.state = train(
                self.state,
                update,
                batches,
                steps=self.steps,
                hooks=[self.log, show, guard, *hooks, self.save],
            )
            self.save.now(self.steps, self.state)
        return self.state

    def close(self) -> None:
        """Waits for what is being written."""
        self.checkpoints.close()
        self.log.close()
