"""What a notebook asks before it starts: which device, which encoder, which config."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from brainjax.configuration import load_config
from brainjax.errors import InputRefusedError
from brainjax.interop import convert, make_statement, show_conversion
from brainjax.train.folder import read_json
from brainjax.train.restore import load_run
from brainjax.train.summary import describe_device
from brainjax.volume.exact import ExactRecipe
from brainjax.volume.recipe import AnyRecipe, make_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
"""Of the checkout; a wheel has none."""


class Start(NamedTuple):
    """Where fine-tuning starts.

    Attributes:
      init: folder of the run whose encoder is taken; "" for none.
      recipe: that scans are to be prepared by.
    """

    init: str
    recipe: AnyRecipe


def say_device() -> None:
    """Prints which devices compute, and what to do where that is only the CPU."""
    if jax.default_backend() != "cpu":
        print(f"accelerator found, and used: {describe_device()}")
    else:
        print(
            f"no GPU found: runs on {describe_device()}, and takes longer "
            "(on Colab: Runtime > Change runtime type > T4 GPU)"
        )


def start_from(
    pretrained: str | Path, home: Path, *, spacing: float = 4.0, origin: str = ""
) -> Start:
    """Finds the encoder to start from; converts a checkpoint file once.

    Args:
      pretrained: folder of a run; or a file of another package, or
        hf://owner/name/file, which becomes a run in `home`; or "" for none.
      home: folder of everything that the notebook writes.
      spacing: mm, of volumes for a network from scratch; a run has its own.
      origin: who trained the file, where its keys do not tell.

    Raises:
      InputRefusedError: no such run, or a file that cannot be read.
    """
    if not str(pretrained):
        return Start("", make_recipe(spacing=spacing))
    folder = Path(pretrained)
    if str(pretrained).startswith("hf://") or folder.is_file():
        folder = Path(home) / f"converted_{folder.stem}"
        _convert_once(str(pretrained), folder, origin)
    return Start(str(folder), load_run(folder).recipe)


def task_config(
    start: Start, prepared: str | Path, target: str, *, event: str = ""
) -> ConfigDict:
    """Gives the config of fine-tuning for one column of a table, to change at will.

    From scratch it is the small CNN of configs/ixi_age_cnn.py, for volumes of any
    shape; else configs/tasks/column.py as it is. A fifth of the subjects validates,
    because intervals rest on them.

    Args:
      start: from `start_from`.
      prepared: folder of the prepared data set.
      target: the column; of survival, that of times.
      event: of survival, the column that is 1 where the event came; "" otherwise.
    """
    config: Any = load_config(CONFIGS / "tasks" / "column.py")
    config.init, config.weights = start.init, "pretrained"
    if not start.init:
        plain: Any = load_config(CONFIGS / "ixi_age_cnn.py")
        config.weights, config.encoder = "random", plain.encoder
        config.view = start.recipe.shape
        config.optimizer.peak, config.optimizer.layer_decay = plain.optimizer.peak, 1.0
    if isinstance(start.recipe, ExactRecipe):
        # Its axes are as stored: which of them to mirror cannot be known.
        config.augment = ConfigDict({**config.augment, "flip": 0.0})
    config.data.path = str(prepared)
    config.split.val = 0.2
    config.split.stratify = event or target
    config.task.target = target
    if event:
        config.task.name, config.task.event = "survival", event
    return config


def _convert_once(address: str, folder: Path, origin: str) -> None:
    if folder.exists():
        before = read_json(folder / "config.json").get("converted", {}).get("file")
        if before != address:
            raise InputRefusedError(
                f"{folder}: wanted what {address} was converted to, got a run from "
                f"{before}; rename it"
            )
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    show_conversion(convert(address, folder, make_statement(origin=origin)))
