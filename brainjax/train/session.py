"""One run from start or resume to its last checkpoint; shared by every kind of run."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.train.folder import RunFolder, first_difference
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
        if jax.process_count() > 1:
            raise InputRefusedError(
                f"{folder.path}: wanted one process, got {jax.process_count()}: "
                "runs of several are not supported yet"
            )
        self.steps, self.batch, self.patience = steps, batch, patience
        self.folder, self.mesh = folder, blueprint.mesh
        self.checkpoints = Checkpoints(folder.checkpoints, best=BEST[extra["kind"]])
        if self.checkpoints.latest() is None:
            self.state = (start or blueprint.initialise)()
        else:
            found = self.checkpoints.restore(blueprint.abstract)
            _check_same(folder, found.extra, extra)
            self.state = found.state
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

    @property
    def finished(self) -> bool:
        """Whether an earlier call took the run to its last step and summed it up."""
        return self.start >= self.steps and self.folder.summary.exists()

    def close(self) -> None:
        """Waits for what is being written."""
        self.checkpoints.close()
        self.log.close()


def _check_same(folder: RunFolder, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to go on with other data than the run began with.

    Raises:
      InputRefusedError: recipe, subjects, labels, volumes or donor changed meanwhile.
    """
    difference = first_difference(was, json.loads(json.dumps(now)))
    if difference:
        key, before, after = difference
        shown = [
            text if len(text) < 60 else text[:57] + "..."
            for text in (repr(before), repr(after))
        ]
        raise InputRefusedError(
            f"{folder.path}: this run began with {key} = {shown[0]}, now it is "
            f"{shown[1]}; choose another --workdir or restore the data"
        )
