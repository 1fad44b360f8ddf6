"""Checkpoints: the whole state of a run, atomically, with sha256 for every file.

Orbax writes a step in the background into a temporary folder and renames it, so that a
kill never leaves half a step. It does not notice bytes that changed on disk later. So
when a step is complete its files are hashed into `integrity.json` inside it, and only a
step with that file counts. A process killed between the rename and `integrity.json`
leaves an unfinished step: it is never read, the step before it (still there, as at
least two are kept) is used, and the next save removes it.

Reading changes nothing in the folder: `predict` may open a run that still trains.

Of several processes every one calls every method, in the same order, on one shared file
system. Each writes its part of the arrays; process 0 does the rest (hashing, verifying,
removing) and says which steps there are.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orbax.checkpoint import v1 as ocp

from brainjax.checkpoint.integrity import (
    INTEGRITY,
    DamagedError,
    read_integrity,
    read_verified,
    short_hash,
    verify,
    write_integrity,
)
from brainjax.checkpoint.keeping import check_keys, check_ours, preservation
from brainjax.checkpoint.loading import load_state
from brainjax.errors import InputRefusedError
from brainjax.parallel import first_does, is_first

log = logging.getLogger("brainjax")
T = TypeVar("T")


class SaveError(OSError):
    """A step could not be saved, for want of space for one; those before it are."""


class Restored(NamedTuple):
    """What a checkpoint gives back.

    state: the tree that was asked for; extra: the JSON dict saved with it; step: the
    step it is of; hash: 12 hex characters naming these very files.
    """

    state: Any
    extra: dict[str, Any]
    step: int
    hash: str


class Checkpoints:
    """The checkpoints of one run, in `folder`, one sub-folder per step.

    keep: the newest steps kept, at least 2; best: "min" or "max" also keeps the step
    with the best `metrics["score"]`.
    """

    def __init__(
        self, folder: str | os.PathLike, *, keep: int = 2, best: str | None = None
    ):
        if keep < 2:
            raise InputRefusedError(f"keep: wanted 2 or more checkpoints, got {keep}")
        if best not in (None, "min", "max"):
            raise InputRefusedError(f"best: wanted min, max or None, got {best!r}")
        self.folder = Path(folder).absolute()
        self._keep, self._best = keep, best
        self._damaged: set[int] = set()
        self._writer: ocp.training.Checkpointer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future | None = None

    def save(
        self,
        step: int,
        state: Any,
        extra: dict[str, Any],
        *,
        metrics: dict[str, Any] | None = None,
        wait: bool = False,
    ) -> bool:
        """Saves a tree of arrays and a JSON dict; gives False if the step is there.

        Returns once the arrays are copied, so that the state may be donated; writing
        and hashing go on in the background, and an error there is raised by the next
        call. A save still in flight is waited for, never skipped. With `wait` it
        returns when the step is on disk, hashed and listed. A step saved without
        metrics is never the best.
        """
        if self._best and metrics is not None and "score" not in metrics:
            raise ValueError(
                f"best={self._best!r} wants metrics['score'], got {metrics}"
            )
        if not math.isfinite((metrics or {}).get("score", 0.0)):
            log.warning("%s: step %d is never the best: %s", self.folder, step, metrics)
            metrics = None
        check_keys(state)
        self.wait()
        writer = self._open()
        written = step not in self.steps()
        if written:
            about: dict[str, Any] = {"extra": extra, "metrics": metrics or {}}
            response = writer.save_checkpointables_async(
                step,
                {"state": state},
                force=True,
                metrics=metrics,
                custom_metadata=about,
            )
            if response is None:
                raise RuntimeError(f"step {step}: Orbax skipped the save")
            self._pending = self._thread.submit(self._finish, step, response)
        if wait:
            self.wait()
            if step not in self.steps():
                raise RuntimeError(f"{self.folder}: step {step} is not listed")
        return written

    def restore(
        self,
        abstract_state: Any,
        step: int | None = None,
        *,
        parts: Sequence[str] | None = None,
    ) -> Restored:
        """Reads the newest intact step (or exactly `step`) after verifying its hashes.

        abstract_state: tree of jax.ShapeDtypeStruct with the shardings wanted now (none
        means the first device). parts: path prefixes such as "params/encoder"; then
        abstract_state holds just the leaves below them and nothing else is read.

        A damaged step is named in a warning and the step before it is used. Raises
        InputRefusedError when none is intact, when the `step` asked for is damaged or
        absent, and when names, shapes or dtypes are not those of the checkpoint.
        """
        self.wait()
        number, digest = first_does(lambda: self._find_intact(step))
        state = load_state(self.folder / str(number), abstract_state, parts)
        return Restored(state, self._extra(number), number, digest)

    def steps(self) -> list[int]:
        """Lists the finished steps, oldest first; touches no array."""
        return first_does(self.listed)

    def listed(self) -> list[int]:
        """Lists the finished steps as this process alone sees them."""
        found = (step for step in self._on_disk() if self._finished(step))
        return [step for step in found if step not in self._damaged]

    def latest(self) -> int | None:
        """Gives the newest finished step, or None; its hashes are not checked here."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Gives the finished step with the best score, or None without scores."""
        if self._best is None:
            raise ValueError("best_step: wanted Checkpoints(best='min' or 'max')")
        sign = -1 if self._best == "max" else 1
        scores = []
        for step in self.steps():
            try:
                scores.append((sign * self._metadata(step)["metrics"]["score"], -step))
            except (DamagedError, KeyError) as error:
                log.warning("%s: step %d has no score (%s)", self.folder, step, error)
        return -min(scores)[1] if scores else None

    def read_extra(self, step: int | None = None) -> dict[str, Any]:
        """Gives the JSON dict of the newest finished step, or of `step`, fast.

        Only the file it is in is verified; `restore` gives the dict of the step that
        it really used. Raises InputRefusedError as `restore` does.
        """
        steps = self.steps()[::-1] if step is None else [step]
        return self._first_undamaged(steps, self._extra)[1]

    def hash(self, step: int | None = None) -> str:
        """Gives the 12 hex characters that name the files of a step."""
        number = self.latest() if step is None else step
        try:
            return short_hash(read_integrity(self.folder / str(number)))
        except DamagedError as error:
            raise InputRefusedError(f"{self.folder}, step {number}: {error}") from None

    def wait(self) -> None:
        """Blocks until the save in flight is on disk and hashed; raises its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._outcome(pending)
            first_does(lambda: None)  # nobody looks before process 0 has hashed

    def check(self) -> None:
        """Raises the error of a save that has failed meanwhile; waits for none."""
        if self._pending is not None and self._pending.done():
            self._outcome(self._pending)

    def close(self) -> None:
        """Waits for the save in flight and frees the writer."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()

    def _outcome(self, saving: Future) -> None:
        try:
            saving.result()
        except Exception as error:
            newest = max(self.listed(), default="none")
            raise SaveError(
                f"{self.folder}: a step was not saved; the newest that is: {newest} "
                f"({type(error).__name__}: {error})"
            ) from error

    def _finish(self, step: int, response: Any) -> None:
        response.result()  # of several processes: once all have written their parts
        if is_first():
            write_integrity(self.folder / str(step))

    def _find_intact(self, step: int | None) -> tuple[int, str]:
        """Gives the newest step whose hashes hold (or `step`), and its hash."""

        def look(number: int) -> str:
            try:
                return verify(self.folder / str(number))
            except DamagedError:
                self._damaged.add(number)
                raise

        return self._first_undamaged(
            self.listed()[::-1] if step is None else [step], look
        )

    def _first_undamaged(
        self, steps: Sequence[int], look: Callable[[int], T]
    ) -> tuple[int, T]:
        """Gives the first step that can be looked at, and what was found."""
        reasons = []
        for number in steps:
            try:
                return number, look(number)
            except DamagedError as error:
                reasons.append(f"step {number} is damaged: {error}")
                log.warning("%s: %s", self.folder, reasons[-1])
        found = "; ".join(reasons) or "none"
        raise InputRefusedError(f"{self.folder}: wanted a checkpoint, got {found}")

    def _finished(self, step: int) -> bool:
        return (self.folder / str(step) / INTEGRITY).is_file()

    def _on_disk(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())

    def _open(self) -> ocp.training.Checkpointer:
        # Unusable steps go first: counted as kept ones they would push out good ones.
        bad = first_does(self._remove_unusable)
        if self._writer is None:
            self._writer = ocp.training.Checkpointer(
                str(self.folder),
                preservation_policy=preservation(self._keep, self._best),
                cleanup_tmp_directories=True,
            )
        elif bad:
            self._writer.reload()
        return self._writer

    def _remove_unusable(self) -> list[int]:
        bad = {s for s in self._on_disk() if not self._finished(s)} | self._damaged
        for step in sorted(bad):
            check_ours(self.folder / str(step))
            log.warning("%s: removing unusable step %d", self.folder, step)
            shutil.rmtree(self.folder / str(step), ignore_errors=True)
        self._damaged = set()
        return sorted(bad)

    def _metadata(self, step: int) -> dict[str, Any]:
        content = read_verified(self.folder / str(step), "_CHECKPOINT_METADATA")
        return json.loads(content)["custom_metadata"]

    def _extra(self, step: int) -> dict[str, Any]:
        return self._metadata(step)["extra"]
