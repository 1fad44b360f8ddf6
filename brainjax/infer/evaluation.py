"""Scores of a run on subjects it never saw, with intervals."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from brainjax.configuration import construct
from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.evaluate.metrics import Metric
from brainjax.evaluate.probes import probe_metrics
from brainjax.evaluate.scores import score, score_baseline
from brainjax.infer.table import write_table
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.tasks import Classification
from brainjax.train.folder import RunFolder, read_json, write_json
from brainjax.train.restore import (
    Run,
    load_run,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import Split, name_subjects, split_scans


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
    if prepared is None and "data" not in config:
        raise InputRefusedError(
            f"{run}: a converted run has no test subjects of its own; state a prepared "
            "data set with labels: --prepared"
        )
    if loaded.network.get("inputs", 1) > 1:
        raise InputRefusedError(
            f"{run}: wanted a run of one scan a subject, got one of "
            f"{loaded.network['inputs']}, which predict answers; evaluate does not yet"
        )
    path = prepared or config["data"]["path"]
    dataset = open_dataset(path)
    refuse_other_recipe(loaded, dataset.recipe, path)
    suffix = f"_{prepared.resolve().name}" if prepared else ""
    if prepared:
        split = _all_as_test(dataset, loaded)
    else:
        split = construct("split", split_scans, dataset=dataset, **config["split"])
    refuse_seen_subjects(loaded, name_subjects(dataset, split.test), path)
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


def _all_as_test(dataset: RecordDataset, run: Run) -> Split:
    if run.task is None:
        raise InputRefusedError(
            f"{run.folder}: wanted a fine-tuned run for another data set, got one of "
            f"kind {run.kind}, which has no task to answer"
        )
    nobody = np.zeros(0, np.int64)
    return Split(nobody, nobody, np.arange(len(dataset)))


def _evaluate_task(
    run: Run,
    dataset: RecordDataset,
    test: Int[np.ndarray, " n"],
    folder: RunFolder,
    suffix: str,
) -> dict[str, Any]:
    """Answers the labelled test scans; writes the predictions, gives the scores."""
    task = run.task
    assert task is not None
    labels = dataset.labels(task.target)
    known = [int(i) for i in test if labels[i] is not None]
    if not known:
        raise InputRefusedError(
            f"{dataset.folder}: wanted test scans labelled {task.target!r}, got none"
        )
    outputs = _run(run, dataset, known, method="__call__")
    values = [labels[i] for i in known]
    subjects = [dataset.rows[i]["subject"] for i in known]
    name, baseline = score_baseline(task, values, subjects)
    columns = {
        "source": [dataset.rows[i]["source"] for i in known],
        "subject": subjects,
        # In the words of the answer: a table may say 1.0 where the class is "1".
        "target": task.names(values) if isinstance(task, Classification) else values,
        **task.columns(outputs),
    }
    write_table(columns, folder.path / f"predictions{suffix}.csv")
    return {
        "task": task.to_dict()["name"],
        "target": task.target,
        "unit": task.unit,
        "n_scans": len(known),
        "n_subjects": len(set(subjects)),
        "metrics": _as_json(score(task, outputs, values, subjects)),
        "baseline": {"name": name, "metrics": _as_json(baseline)},
    }


def _evaluate_features(
    run: Run, dataset: RecordDataset, split: Split, probe: dict[str, Any]
) -> dict[str, Any]:
    """Scores frozen features by simple models fitted to the training scans."""
    if not len(split.train) or not len(split.test):
        raise InputRefusedError(
            f"{run.folder}: wanted training and test scans for a probe, got "
            f"{len(split.train)} and {len(split.test)}"
        )
    both = np.concatenate([split.train, split.test])
    features = _run(run, dataset, both, method="encode")
    train, test = features[: len(split.train)], features[len(split.train) :]
    subjects = [dataset.rows[i]["subject"] for i in split.test]
    metrics: dict[str, Any] = {}
    for target in probe["targets"]:
        labels = dataset.labels(target)
        found = probe_metrics(
            train,
            [labels[i] for i in split.train],
            test,
            [labels[i] for i in split.test],
            subjects,
        )
        metrics |= {f"{target}/{name}": value for name, value in found.items()}
    return {
        "task": "probe",
        "target": ", ".join(probe["targets"]),
        "unit": "",
        "n_scans": len(split.test),
        "n_subjects": len(set(subjects)),
        "metrics": _as_json(metrics),
    }


def _run(
    run: Run, dataset: RecordDataset, indices: Any, *, method: str
) -> Float[np.ndarray, "n d"]:
    encode = make_encode(run.graphdef, view=run.view, method=method)
    volumes = (dataset.read(int(index)) for index in indices)
    return encode_scans(encode, run.params, run.batch_stats, volumes)


def _as_json(metrics: dict[str, Metric]) -> dict[str, dict[str, float]]:
    return {name: metric._asdict() for name, metric in metrics.items()}


def show_evaluation(run: str | Path, result: dict[str, Any]) -> None:
    """Prints what `evaluate_run` gave, or evaluation.json holds, as a table."""
    of = (
        f"{result['target']} ({result['unit']})" if result["unit"] else result["target"]
    )
    table = Table(
        title=f"{run}: {of}, {result['n_scans']} {result['split']} scans of "
        f"{result['n_subjects']} subjects"
    )
    for heading in ("metric", "value", "95 % interval", "baseline"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    baseline = result.get("baseline", {}).get("metrics", {})
    for name, metric in result["metrics"].items():
        other = baseline.get(name)
        table.add_row(
            name,
            _in_digits(metric["value"]),
            f"{_in_digits(metric['low'])} to {_in_digits(metric['high'])}",
            "" if other is None else _in_digits(other["value"]),
        )
    Console().print(table)


def _in_digits(value: float | None) -> str:
    # What is not finite in memory is null in evaluation.json.
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"
