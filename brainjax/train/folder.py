"""What a run leaves on disk, by name.

config.json  metrics.jsonl  tensorboard/  checkpoints/  summary.json
pretraining adds views.npz and embeddings.npz, fine-tuning guards.npz, evaluation
evaluation.json and predictions.csv. Of several processes, process 0 writes all of it
but the arrays of checkpoints, on a file system that they share.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.parallel import first_does, gather
from brainjax.records.writing import write_atomically
from brainjax.train.lock import lock, release

HOW = ("mesh", "profile_steps", "data.source", "loss.form", "train.micro_batch")
"""Keys that say how a run is computed, not what: a resumed run may have others.

Of an encoder with BatchNorm the micro-batch is part of the what; a run that moves to
more devices than divide it must be able to change it all the same.
"""


class RunFolder:
    """The paths of one run, and the rule that a run keeps its config."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.lock = self.path / ".lock"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.summary = self.path / "summary.json"
        self.views = self.path / "views.npz"
        self.embeddings = self.path / "embeddings.npz"
        self.guards = self.path / "guards.npz"
        self.evaluation = self.path / "evaluation.json"
        self.predictions = self.path / "predictions.csv"

    def claim(self, config: dict) -> None:
        """Writes the config, or checks that the folder holds the same one.

        A folder without a finished checkpoint has nothing to lose and takes any; one
        with a checkpoint takes new values of the keys of HOW only. The folder is locked
        until `release`, or until this process ends.

        Raises:
          InputRefusedError: the folder belongs to a run with another config, is being
            written by another process, or is none that can be written; or the processes
            of this run have different configs.
        """
        refuse_differences("config", config)
        first_does(lambda: self._claim(config))

    @contextmanager
    def claimed(self, config: dict) -> Iterator[None]:
        """Claims the folder for what happens inside, and gives it back."""
        self.claim(config)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Lets other processes write into the folder."""
        release(self.lock)

    def _claim(self, config: dict) -> None:
        self._check(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.lock)
            self._check(config)  # a run may have ended between the look and the lock
            write_json(self.config, config)
        except OSError as error:
            raise InputRefusedError(
                f"{self.path}: wanted a folder to write in, got {error.strerror}"
            ) from None

    def _check(self, config: dict) -> None:
        present = read_json(self.config) if self.config.exists() else None
        if present is not None and "kind" not in present:
            raise InputRefusedError(
                f"{self.path}: wanted a run's folder or a new one, got a config.json "
                "that is no run's"
            )
        if present is not None and "converted" in present:
            raise InputRefusedError(
                f"{self.path}: holds a converted checkpoint; name it in config.init, "
                "and choose another --workdir"
            )
        if present is not None and Checkpoints(self.checkpoints).listed():
            difference = first_difference(without(present, HOW), without(config, HOW))
            if difference:
                key, was, asked = difference
                raise InputRefusedError(
                    f"{self.path}: holds a run with {key} = {was!r}, this one has "
                    f"{asked!r}; choose another --workdir or the same config"
                )


def read_json(path: Path) -> Any:
    """Reads a JSON file of a run; damaged or absent is one line.

    Raises:
      InputRefusedError: the file is not there or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a run's file, got {error.strerror}"
        ) from None
    except ValueError as error:
        raise InputRefusedError(f"{path}: wanted JSON, got {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half."""
    text = json.dumps(finite(value), indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())


def finite(value: Any) -> Any:
    """The same value with None where a float is not finite: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def first_difference(was: Any, asked: Any, key: str = "") -> tuple | None:
    """Gives (dotted key, old, new) of the first difference of two configs, or None."""
    if not (isinstance(was, dict) and isinstance(asked, dict)):
        return None if was == asked else (key or "config", was, asked)
    for name in sorted({*was, *asked}):
        dotted = f"{key}.{name}" if key else name
        found = first_difference(was.get(name), asked.get(name), dotted)
        if found:
            return found
    return None


def without(config: dict, keys: tuple[str, ...], prefix: str = "") -> dict:
    """Gives a config without some dotted keys."""
    kept = {name: value for name, value in config.items() if prefix + name not in keys}
    return {
        name: without(value, keys, f"{prefix}{name}.")
        if isinstance(value, dict)
        else value
        for name, value in kept.items()
    }


def refuse_differences(what: str, value: dict) -> None:
    """Makes sure that every process of a run has the same JSON dict; of a few kB.

    Raises:
      InputRefusedError: on every process, naming the first that differs, and in what.
    """
    first, *others = gather(value)
    for number, other in enumerate(others, start=1):
        difference = first_difference(first, other)
        if difference:
            key, wanted, got = difference
            raise InputRefusedError(
                f"{what}: wanted the same on every process, got {key} = {wanted!r} on "
                f"process 0 and {got!r} on process {number}"
            )
