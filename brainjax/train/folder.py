"""What a run leaves on disk, by name.

config.json  metrics.jsonl  tensorboard/  checkpoints/  summary.json
pretraining adds views.npz and embeddings.npz, evaluation adds evaluation.json
and predictions.csv.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.records.store import write_atomically


class RunFolder:
    """The paths of one run, and the rule that a run keeps its config."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.summary = self.path / "summary.json"
        self.views = self.path / "views.npz"
        self.embeddings = self.path / "embeddings.npz"
        self.evaluation = self.path / "evaluation.json"
        self.predictions = self.path / "predictions.csv"

    def claim(self, config: dict) -> None:
        """Writes the config, or checks that the folder holds the very same one.

        A folder without a finished checkpoint has nothing to lose and takes any.

        Raises:
          InputRefusedError: the folder belongs to a run with another config, or is
            none that can be written.
        """
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
        if present is not None and Checkpoints(self.checkpoints).steps():
            difference = first_difference(present, config)
            if difference:
                key, was, asked = difference
                raise InputRefusedError(
                    f"{self.path}: holds a run with {key} = {was!r}, this one has "
                    f"{asked!r}; choose another --workdir or the same config"
                )
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.config, config)
        except OSError as error:
            raise InputRefusedError(
                f"{self.path}: wanted a folder to write in, got {error.strerror}"
            ) from None


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
