"""A survival run on cases, from scans to tables: evaluate and predict agree."""

import csv
import json

import pytest

from brainjax.configuration import to_dict
from brainjax.infer import evaluate_run, predict, show_evaluation
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.train.finetune import finetune
from brainjax.volume.recipe import make_recipe
from tests.conftest import write_scan
from tests.train.configs import tiny_finetuning

ENCODER = {"name": "vit", "patch": 12, "width": 12, "depth": 1, "heads": 3}
TASK = {
    "name": "survival",
    "target": "days",
    "event": "died",
    "unit": "days",
    "covariates": ("age",),
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Twenty subjects of two sequences, of which every third lacks the second."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["participant_id\tage\tdays\tdied"]
    for number in range(20):
        name, size = f"sub-{number:02d}", 0.8 + 0.02 * number
        for shift, sequence in enumerate(("FLAIR", "T1CE")[: 1 + bool(number % 3)]):
            path = folder / "scans" / f"{name}_{sequence}.nii.gz"
            write_scan(path, seed=number + 50 * shift, size=size)
        age, days = 30 + 7 * number % 40, 100 + 11 * number
        lines.append(f"{name}\t{age}\t{days}\t{int(number % 4 > 0)}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    out = folder / "prepared"
    sources = find_sources([folder / "scans"])
    table = folder / "participants.tsv"
    prepare(sources, out, make_recipe(spacing=8.0), labels=table, progress=False)
    return folder


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    words = ["--config.weights=random", "--config.view=24,24,24"]
    config = tiny_finetuning(cohort / "prepared", "", *words, "--config.split.test=0.4")
    data = {"train_subjects": 0, "sequences": ("FLAIR", "T1CE")}
    with config.unlocked():
        config.encoder, config.task = ENCODER, TASK
        config.data = {**to_dict(config.data), **data}
    return finetune(config, tmp_path_factory.mktemp("runs") / "survival").path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_evaluate_and_predict_agree_on_cases(run, cohort, tmp_path, capsys):
    result = evaluate_run(run)
    assert result["n_scans"] == result["n_subjects"] == 8
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved["survival"]["hazard_ratio_adjusted"]["covariates"] == ["age"]
    assert 0 <= saved["metrics"]["c_index"]["value"] <= 1
    show_evaluation(run, saved)
    assert "Research use only" in capsys.readouterr().out
    out = tmp_path / "answers.csv"
    assert predict(run, [str(cohort / "scans")], out=out) == []
    assert "no time and no probability" in capsys.readouterr().err
    answers = {row["subject"]: row for row in rows_of(out)}
    assert len(answers) == 20
    assert {row["sequence"] for row in answers.values()} == {"FLAIR", "FLAIR+T1CE"}
    for row in rows_of(run / "predictions.csv"):
        answer = answers[row["subject"]]
        assert float(answer["prediction"]) == pytest.approx(
            float(row["prediction"]), abs=1e-3
        )
        assert float(answer["ood_score"]) == pytest.approx(
            float(row["ood_score"]), rel=0.05
        )
        assert answer["in_distribution"] == row["in_distribution"]
