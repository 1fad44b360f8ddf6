"""Evaluation: what is written and shown says the same as what was answered."""

import csv
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import fit_guards
from brainjax.evaluate.features import Answers
from brainjax.evaluate.guards import FILE
from brainjax.infer import evaluation, show_evaluation
from brainjax.records.store import RecordDataset
from brainjax.tasks import make_task
from brainjax.train.folder import RunFolder, read_json, write_json


def evaluate(
    monkeypatch,
    tmp_path,
    labels: dict[str, list],
    outputs: np.ndarray,
    *,
    guarded: bool = False,
    **words: Any,
):
    """Evaluates answers that are given; returns evaluation and predictions."""
    n = len(outputs)
    rows: Any = [{"source": f"{i}.nii", "subject": f"s{i}"} for i in range(n)]
    data: Any = SimpleNamespace(
        folder=tmp_path, rows=rows, labels=lambda name: labels[name]
    )
    task = make_task(**words)
    values = task.values(data.labels)
    run: Any = SimpleNamespace(
        task=task.fit(values), folder=tmp_path, checkpoint="abc", network={}
    )
    features = np.random.default_rng(0).normal(size=(n, 4))
    if guarded:
        guards = fit_guards(run.task, outputs, values, features, checkpoint="abc")
        guards.save(tmp_path / FILE)

    def answer(run: Any, dataset: Any, known: list[int]) -> Answers:
        return Answers(outputs[known], features[known])

    monkeypatch.setattr(evaluation, "_answer", answer)
    dataset: RecordDataset = data
    folder = RunFolder(tmp_path)
    result = evaluation._evaluate_task(run, dataset, np.arange(n), folder, "")
    with folder.predictions.open(newline="") as file:
        return result, list(csv.DictReader(file))


def test_the_true_classes_are_written_in_the_words_of_the_answers(
    monkeypatch, tmp_path
):
    right = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    result, rows = evaluate(
        monkeypatch,
        tmp_path,
        {"group": [0.0, 1.0, 1]},
        right,
        name="classification",
        target="group",
    )
    assert [row["target"] for row in rows] == ["0", "1", "1"]
    assert [row["prediction"] for row in rows] == ["0", "1", "1"]
    assert result["metrics"]["accuracy"]["value"] == 1
    assert result["n_subjects"] == 3


def test_the_true_numbers_are_written_as_they_are(monkeypatch, tmp_path):
    answers = np.zeros((3, 1), np.float32)
    labels = [20.5, 30.0, 41.0]
    words = {"name": "regression", "target": "group"}
    _, rows = evaluate(monkeypatch, tmp_path, {"group": labels}, answers, **words)
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


RNG = np.random.default_rng(0)
AGES = RNG.uniform(20, 80, 60)
SEXES = [("F", "M")[i % 2] for i in range(60)]
RISKS = RNG.normal(size=60)
LABELS: dict[str, list] = {
    "age": list(AGES),
    "sex": SEXES,
    "days": list(np.ceil(300 * RNG.exponential(np.exp(-RISKS)))),
    "event": [i % 4 > 0 for i in range(60)],
}


def test_a_regression_says_what_its_guards_are_worth(monkeypatch, tmp_path, capsys):
    pulled = (0.5 * (AGES - AGES.mean()) + RNG.normal(0, 4, 60)) / AGES.std()
    result, rows = evaluate(
        monkeypatch,
        tmp_path,
        LABELS,
        pulled[:, None],
        guarded=True,
        name="regression",
        target="age",
    )
    assert result["metrics"]["bias_slope"]["value"] == pytest.approx(-0.5, abs=0.1)
    corrected = result["bias_correction"]
    assert corrected["slope"] == pytest.approx(-0.5, abs=0.1)
    better = corrected["mae_bias_corrected"]["value"]
    assert better < result["metrics"]["mae"]["value"]
    assert "mae_bias_corrected" not in result["metrics"]
    assert result["coverage"]["measured"]["value"] >= 0.9
    assert {"low", "high", "ood_score", "in_distribution"} <= set(rows[0])
    write_json(tmp_path / "evaluation.json", result)
    show_evaluation("run", {**read_json(tmp_path / "evaluation.json"), "split": "test"})
    said = " ".join(capsys.readouterr().out.split())
    assert "Research use only" in said
    assert "brain-age gap" in said
    assert f"mae_bias_corrected: {better:.3f}" in said
    assert "(0.9 wanted)" in said


def test_a_classification_is_calibrated_before_and_after(monkeypatch, tmp_path, capsys):
    sure = np.where([[s == "F", s == "M"] for s in SEXES], 9.0, 0.0)
    wrong = np.arange(60) % 5 == 0
    sure[wrong] = sure[wrong][:, ::-1]
    result, _ = evaluate(
        monkeypatch,
        tmp_path,
        LABELS,
        sure,
        guarded=True,
        name="classification",
        target="sex",
    )
    calibration = result["calibration"]
    before, after = (calibration[k]["ece"]["value"] for k in ("before", "after"))
    assert calibration["temperature"] > 1.5
    assert after < before / 2
    assert sum(calibration["after"]["reliability"]["count"]) == 60
    assert result["coverage"]["measured"]["value"] >= 0.9
    show_evaluation("run", {**result, "split": "test"})
    assert "after temperature" in " ".join(capsys.readouterr().out.split())


def test_survival_is_told_by_quartile_and_adjusted(monkeypatch, tmp_path, capsys):
    result, rows = evaluate(
        monkeypatch,
        tmp_path,
        LABELS,
        RISKS[:, None],
        name="survival",
        target="days",
        event="event",
        covariates=("age", "sex"),
    )
    tables = result["survival"]
    assert [row["subjects"] for row in tables["risk_quartiles"]] == [15] * 4
    assert tables["hazard_ratio_adjusted"]["covariates"] == ["age", "sex"]
    assert result["metrics"]["hazard_ratio"]["value"] > 1
    assert {row["event"] for row in rows} == {"0", "1"}
    assert [float(row["target"]) for row in rows] == LABELS["days"]
    write_json(tmp_path / "evaluation.json", result)
    show_evaluation("run", {**read_json(tmp_path / "evaluation.json"), "split": "test"})
    said = " ".join(capsys.readouterr().out.split())
    assert "no time and no probability" in said
    assert "adjusted for age, sex" in said
    assert "log-rank test of the risk quartiles: p < 0.001" in said


def test_a_horizon_leaves_out_those_who_were_lost_before(monkeypatch, tmp_path):
    result, rows = evaluate(
        monkeypatch,
        tmp_path,
        LABELS,
        np.stack([-RISKS, RISKS], axis=1),
        name="classification",
        target="days",
        event="event",
        horizon=365.0,
    )
    assert result["n_scans"] == len(rows) < 60
    assert {row["target"] for row in rows} == {"no", "yes"}
    assert "after" not in result["calibration"]


def test_guards_of_another_checkpoint_are_refused(monkeypatch, tmp_path):
    words: dict[str, Any] = {"name": "regression", "target": "age"}
    outputs = np.zeros((60, 1))
    evaluate(monkeypatch, tmp_path, LABELS, outputs, guarded=True, **words)
    run: Any = SimpleNamespace(folder=tmp_path, checkpoint="xyz")
    with pytest.raises(InputRefusedError, match="for checkpoint xyz, got those of abc"):
        evaluation.load_guards(run)


def test_a_run_that_does_not_name_its_sequences_is_not_evaluated(tmp_path):
    run: Any = SimpleNamespace(folder=tmp_path, network={"inputs": 2})
    with pytest.raises(InputRefusedError, match="names its 2 sequences"):
        evaluation._sequences(run)
