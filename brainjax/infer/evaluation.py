"""Scores of a run on subjects it never saw, with intervals."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from brainjax.configuration import construct
from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import (
    Answers,
    answer_scans,
    encode_scans,
    make_answer,
    make_encode,
)
from brainjax.evaluate.metrics import Metric
from brainjax.evaluate.probes import probe_metrics
from brainjax.evaluate.scores import score, score_baseline
from brainjax.infer.assess import assess
from brainjax.infer.meaning import RESEARCH, meaning
from brainjax.infer.outline_scores import score_outlines
from brainjax.infer.predict import load_guards
from brainjax.infer.show import show_evaluation
from brainjax.infer.table import write_table
from brainjax.records.cases import open_cases
from brainjax.records.store import RecordDataset
from brainjax.tasks import Classification, Survival, Task
from brainjax.train.folder import RunFolder, read_json, write_json
from brainjax.train.restore import (
    Run,
    load_run,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import Split, name_subjects, split_scans

__all__ = ["evaluate_run", "show_evaluation"]


def evaluate_run(run: str | Path, *, prepared: Path | None = None) -> dict[str, Any]:
    """Scores a run on its test subjects, or on the whole of another prepared data set.

    A fine-tuned run answers its task, and what guards its answers is held against the
    truth (see `assess`); of a pretraining run, ridge or logistic
    regression and kNN on its frozen features do, fitted to its training subjects.
    A segmentation run outlines, and every structure of every scan is scored.
    Writes evaluation.json and predictions.csv (structures.csv) into the run folder; for
    another data set their names carry its folder's name.

    Returns:
      What evaluation.json holds.

    Raises:
      InputRefusedError: not a run, another recipe, no labelled test scan, a subject of
        the other data set that the run learnt from, guards of another checkpoint, a
        converted run of several inputs.
    """
    loaded = load_run(run)
    folder = RunFolder(loaded.folder)
    config = read_json(folder.config)
    if prepared is None and "data" not in config:
        raise InputRefusedError(
            f"{run}: a converted run has no test subjects of its own; state a prepared "
            "data set with labels: --prepared"
        )
    path = prepared or config["data"]["path"]
    dataset = open_cases(path, _sequences(loaded))
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
    if loaded.kind == "segment":
        table = folder.path / f"structures{suffix}.csv"
        result |= score_outlines(loaded, dataset, split.test, table)
    elif loaded.task is None:
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


def _sequences(run: Run) -> tuple[str, ...]:
    """Sequences of a case of this run; () where every scan is answered alone."""
    names = tuple(run.network.get("sequences") or ())
    inputs = run.network.get("inputs", 1)
    if inputs > 1 and not names:
        raise InputRefusedError(
            f"{run.folder}: wanted a run that names its {inputs} sequences, got a "
            "converted one that does not; predict answers it, evaluate cannot"
        )
    return names


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
    guards = load_guards(run)
    labels = task.values(dataset.labels)
    known = [int(i) for i in test if labels[i] is not None]
    if not known:
        raise InputRefusedError(
            f"{dataset.folder}: wanted test scans labelled {task.target!r}, got none"
        )
    answers = _answer(run, dataset, known)
    values = [labels[i] for i in known]
    subjects = [dataset.rows[i]["subject"] for i in known]
    name, baseline = score_baseline(task, values, subjects)
    columns = {
        "source": [dataset.rows[i]["source"] for i in known],
        "subject": subjects,
        **_truth(task, values),
        **task.columns(answers.outputs),
    }
    if guards is not None:
        columns |= guards.columns(task, answers.outputs, answers.features)
    write_table(columns, folder.path / f"predictions{suffix}.csv")
    covariates = _covariates(task, dataset, known)
    return {
        "task": task.to_dict()["name"],
        "target": task.target,
        "unit": task.unit,
        "n_scans": len(known),
        "n_subjects": len(set(subjects)),
        "meaning": f"{RESEARCH} {meaning(task)}",
        "metrics": _as_json(score(task, answers.outputs, values, subjects)),
        "baseline": {"name": name, "metrics": _as_json(baseline)},
        **assess(task, answers, values, subjects, guards, covariates),
    }


def _truth(task: Task, values: list[Any]) -> dict[str, list[Any]]:
    """The truth in the words of the answer: a table may say 1.0 for class "1"."""
    if isinstance(task, Classification):
        return {"target": task.names(values)}
    if isinstance(task, Survival):
        times, events = zip(*values, strict=True)
        return {"target": list(times), "event": [int(came) for came in events]}
    return {"target": values}


def _covariates(
    task: Task, dataset: RecordDataset, known: list[int]
) -> dict[str, list[Any]]:
    names = task.covariates if isinstance(task, Survival) else ()
    columns = {name: dataset.labels(name) for name in names}
    return {name: [column[i] for i in known] for name, column in columns.items()}


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
    features = _encode(run, dataset, both)
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


def _answer(run: Run, dataset: RecordDataset, indices: Any) -> Answers:
    answer = make_answer(run.graphdef, view=run.view)
    volumes = (dataset.read(int(index)) for index in indices)
    return answer_scans(answer, run.params, run.batch_stats, volumes)


def _encode(run: Run, dataset: RecordDataset, indices: Any) -> Float[np.ndarray, "n d"]:
    encode = make_encode(run.graphdef, view=run.view)
    volumes = (dataset.read(int(index)) for index in indices)
    return encode_scans(encode, run.params, run.batch_stats, volumes)


def _as_json(metrics: dict[str, Metric]) -> dict[str, dict[str, float]]:
    return {name: metric._asdict() for name, metric in metrics.items()}
