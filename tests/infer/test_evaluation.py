"""Evaluation: what is written and shown says the same as what was answered."""

import csv
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brainjax.infer import evaluation, show_evaluation
from brainjax.records.store import RecordDataset
from brainjax.tasks import make_task
from brainjax.train.folder import RunFolder, read_json, write_json


def evaluate(monkeypatch, tmp_path, labels: list, outputs: np.ndarray, **task: Any):
    """Evaluates answers that are given; returns evaluation and predictions."""
    rows: Any = [{"source": f"{i}.nii", "subject": f"s{i}"} for i in range(len(labels))]
    data: Any = SimpleNamespace(folder=tmp_path, rows=rows, labels=lambda name: labels)
    run: Any = SimpleNamespace(task=make_task(target="group", **task).fit(labels))
    monkeypatch.setattr(evaluation, "_run", lambda *_, **__: outputs)
    dataset: RecordDataset = data
    folder = RunFolder(tmp_path)
    test = np.arange(len(labels))
    result = evaluation._evaluate_task(run, dataset, test, folder, "")
    with folder.predictions.open(newline="") as file:
        return result, list(csv.DictReader(file))


def test_the_true_classes_are_written_in_the_words_of_the_answers(
    monkeypatch, tmp_path
):
    right = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    result, rows = evaluate(
        monkeypatch, tmp_path, [0.0, 1.0, 1], right, name="classification"
    )
    assert [row["target"] for row in rows] == ["0", "1", "1"]
    assert [row["prediction"] for row in rows] == ["0", "1", "1"]
    assert result["metrics"]["accuracy"]["value"] == 1
    assert result["n_subjects"] == 3


def test_the_true_numbers_are_written_as_they_are(monkeypatch, tmp_path):
    answers = np.zeros((3, 1), np.float32)
    labels = [20.5, 30.0, 41.0]
    _, rows = evaluate(monkeypatch, tmp_path, labels, answers, name="regression")
    assert [float(row["target"]) for row in rows] == labels


def test_an_undefined_score_is_shown_in_memory_and_from_disk(tmp_path, capsys):
    nothing = {"value": np.nan, "low": np.nan, "high": np.nan, "n": 2}
    result = {
        "target": "sex",
        "unit": "class",
        "split": "test",
        "n_scans": 2,
        "n_subjects": 2,
        "metrics": {"accuracy": {**nothing, "value": 0.5}, "auc": nothing},
        "baseline": {"name": "most frequent class", "metrics": {"auc": nothing}},
    }
    write_json(tmp_path / "evaluation.json", result)
    show_evaluation("run", result)
    first = capsys.readouterr().out
    show_evaluation("run", read_json(tmp_path / "evaluation.json"))
    assert capsys.readouterr().out == first
    assert "0.500" in first
    assert "nan" not in first


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_json_of_a_run_has_no_word_for_what_is_not_finite(tmp_path, value):
    write_json(tmp_path / "x.json", {"a": [float(value), 1.0]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.0]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
