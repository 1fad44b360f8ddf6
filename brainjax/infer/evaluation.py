"""Scores of a run on subjects it never saw, with intervals."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from brainjax.configuration import construct
from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.evaluate.probes import probe_metrics
from brainjax.infer.table import write_table
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.tasks import Task
from brainjax.train.folder import RunFolder, read_json, write_json
from brainjax.train.restore import Run, load_run, refuse_other_recipe
from brainjax.train.scans import Split, split_scans


def evaluate_run(run: str | Path, *, prepared: Path | None = None) -> dict[str, Any]:
    """Scores a run on its test subjects, or on the whole of another prepared data set.

    A fine-tuned run answers its task; of a pretraining run, ridge or logistic
    regression and kNN on its frozen features do, fitted to its training subjects.
    Writes evaluation.json and predictions.csv into the run folder; for another data
    set their names carry its folder's name.

    Returns:
      What evaluation.json holds.

    Raises:
      InputRefusedError: not a run, another recipe, no labelled test scan, a subject of
        the other data set that the run learnt from.
    """
    loaded = load_run(run)
    folder = RunFolder(loaded.folder)
    config = read_json(folder.config)
    path = prepared or config["data"]["path"]
    dataset = open_dataset(path)
    refuse_other_recipe(loaded, dataset.recipe, path)
    suffix = f"_{prepared.resolve().name}" if prepared else ""
    if prepared:
        split = _all_as_test(dataset, loaded, prepared)
    else:
        split = construct("split", split_scans, dataset=dataset, **config["split"])
    result = {
        "split": "all" if prepared else "test",
        "data": str(path),
        "seed": config["seed"],
        "checkpoint": loaded.checkpoint,
        "recipe": loaded.recipe.hash,
        "command": f"brainjax evaluate {run}"
        + (f" --prepared {prepared}" if prepared else ""),
    }
    if loaded.task is None:
        result |= _evaluate_features(loaded, dataset, split, config["probe"])
    else:
        result |= _evaluate_task(loaded, dataset, split.test, folder, suffix)
    write_json(folder.path / f"evaluation{suffix}.json", result)
    return result


def _all_as_test(dataset: RecordDataset, run: Run, prepared: Path) -> Split:
    shared = sorted({row["subject"] for row in dataset.rows} & set(run.subjects))
    if shared:
        raise InputRefusedError(
            f"{prepared}: wanted subjects that {run.folder} never saw, got "
            f"{len(shared)} it learnt from, such as {shared[0]}"
        )
    nobody = np.zeros(0, np.int64)
    return Split(nobody, nobody, np.arange(len(dataset)))
