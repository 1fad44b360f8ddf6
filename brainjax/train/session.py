"""One run from start or resume to its last checkpoint; shared by every kind of run."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.parallel import first_does, is_first
from brainjax.train.caching import count_micro_batches
from brainjax.train.flops import model_flops
from brainjax.train.folder import RunFolder, first_difference, refuse_differences
from brainjax.train.hooks import MetricLog, Save, StopWhenDiverged, progress_bar
from brainjax.train.loop import Hook, train
from brainjax.train.profiling import Profile
from brainjax.train.restore import BEST
from brainjax.train.state import Blueprint, State

log = logging.getLogger("brainjax")

POSITIONS = 2**31
"""Samples of a run that have a number of their own: numbers are int32."""


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
      views: of a scan in a step.
      profile_steps: first and last step of a trace; empty for none.
      micro_batch: scans embedded at a time (gradient caching), 0 for all at once.
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
        views: int = 1,
        profile_steps: Sequence[int] = (),
        micro_batch: int = 0,
    ):
        refuse_differences("data", {name: _digest(extra[name]) for name in extra})
        if steps * batch > POSITIONS:
            raise InputRefusedError(
                f"config.train: wanted steps x batch of {POSITIONS} at most, "
                f"got {steps} x {batch}"
            )
        self.steps, self.batch, self.patience = steps, batch, patience
        devices = blueprint.mesh.size
        self.micro_batch = micro_batch
        self.micro_batches = count_micro_batches(batch, micro_batch, devices)
        self.folder, self.mesh = folder, blueprint.mesh
        self.checkpoints = Checkpoints(folder.checkpoints, best=BEST[extra["kind"]])
        if self.checkpoints.latest() is None:
            self.state = (start or blueprint.initialise)()
        else:
            found = self.checkpoints.restore(blueprint.abstract)
            _check_same(folder, found.extra, extra)
            self.state = found.state
        self.start = int(self.state["step"])
        if 0 < self.start < steps:
            log.info("%s: goes on from step %d", folder.path, self.start)
        self.log = MetricLog(
            folder,
            start=self.start,
            every=log_every,
            batch=batch,
            views=views,
            flops=partial(_count_flops, blueprint, extra, views),
            writing=is_first(),
        )
        self.profile = Profile(
            folder.path / "profile",
            profile_steps,
            start=self.start,
            total=steps,
            apart=self.log.ledger.apart,
            writing=is_first(),
        )
        self.save = Save(self.checkpoints, extra, every=save_every, measure=measure)

    def run(
        self, update: Callable, batches: Iterator, hooks: Sequence[Hook] = ()
    ) -> State:
        """Trains to the last step and saves it, whatever `save_every` says."""
        kind = self.save.extra["kind"]
        guard = StopWhenDiverged(self.log, patience=self.patience)
        lines, profile, ledger = self.log, self.profile, self.log.ledger
        with self.save.on_sigterm():
            with (
                ledger.running(),
                profile.ready(),
                progress_bar(kind, self.steps, lines) as show,
            ):
                self.state = train(
                    self.state,
                    ledger.timed(update),
                    ledger.watched(batches),
                    steps=self.steps,
                    hooks=[
                        *(profile.after_step, lines, show, guard),
                        *(*hooks, self.save, profile.before_next),
                    ],
                )
            self.save.now(self.steps, self.state)
        return self.state

    @property
    def finished(self) -> bool:
        """Whether an earlier call took the run to its last step and summed it up."""
        return first_does(
            lambda: self.start >= self.steps and self.folder.summary.exists()
        )

    def close(self) -> None:
        """Waits for what is being written."""
        self.checkpoints.close()
        self.log.close()


def _count_flops(blueprint: Blueprint, extra: dict[str, Any], views: int) -> int:
    """Counts the model FLOPs of a scan, as the run describes itself."""
    network = extra["network"]
    return model_flops(
        blueprint,
        extra["view"],
        views=views,
        frozen=network.get("frozen", False),
        inputs=network.get("inputs", 1),
        # Of a segmenter sequences are channels.
        channels=len(network["sequences"]) or 1 if "segmenter" in network else 1,
    )


def _digest(value: Any) -> str:
    """Gives 12 hex characters of a JSON value that may be long."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
