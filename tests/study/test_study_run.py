"""A study end to end: told first, restartable, one row a run, then a verdict."""

import csv
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from brainjax.cli import main
from brainjax.configuration import load_config
from brainjax.errors import InputRefusedError
from brainjax.interop import convert, make_statement
from brainjax.report.study import ours_of
from brainjax.study import run_study
from brainjax.study import study as studies
from brainjax.study.draws import draw_cases
from brainjax.study.grid import make_grid
from brainjax.study.study import Study
from brainjax.study.ways import Setting, whole_config
from brainjax.train.finetune import plan_finetuning
from brainjax.train.pretrain import pretrain
from tests.interop.foreign import TINY, base
from tests.train.configs import CONFIGS, tiny_pretraining

SLOW = pytest.mark.slow
STUDIES = sorted((CONFIGS / "studies").glob("*.py"))


@pytest.fixture(scope="module")
def donor(tiny_prepared, tmp_path_factory):
    """An encoder of half of the tiny cohort."""
    config = tiny_pretraining(
        tiny_prepared, "--config.split.test=0.6", "--config.train.steps=3"
    )
    return pretrain(config, tmp_path_factory.mktemp("runs") / "pretrain").path


@pytest.fixture
def config(tiny_prepared, donor) -> ConfigDict:
    split = {"seed": 0, "val": 0.2, "test": 0.5, "stratify": "sex", "folds": 0}
    grid = {"ways": ("linear", "frozen"), "per_class": (1,), "draws": 2}
    return ConfigDict(
        {
            "seed": 0,
            "keep": False,
            "data": {"path": str(tiny_prepared)},
            "split": split,
            "tasks": {
                "age": {"name": "regression", "target": "age"},
                "sex": {"name": "classification", "target": "sex"},
            },
            "inits": {
                "ours": {"kind": "run", "path": str(donor)},
                "scratch": {"kind": "scratch"},
                "table": {"kind": "clinical", "columns": ("sex", "age")},
            },
            "blocks": {"all": {**grid, "per_class": (), "fractions": (60, 100)}},
            "frozen": {"steps": 5},
            "finetune": {
                "augment": {"crop": (0.8, 1.0)},
                "head": {},
                "optimizer": {"peak": 1e-4, "warmup": 1},
                "train": {"steps": 2, "batch": 4},
            },
        }
    )


def test_a_study_is_told_first_then_done_once(config, tmp_path, capsys):
    told = run_study(config, tmp_path / "study", dry_run=True)
    count = len(told.study.cells)
    wanted = f"{count} runs, 0 of them finished; the other {count} take about"
    assert wanted in capsys.readouterr().out
    assert not (tmp_path / "study").exists()
    outcome = run_study(config, tmp_path / "study")
    assert not outcome.failed
    assert len(outcome.rows.all()) == count
    with outcome.rows.table.open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["task"], r["score_name"]) for r in rows} == {
        ("age", "mae"),
        ("sex", "auc"),
    }
    # Everybody tests on the same, and nobody on whom the donor learnt from.
    assert len({(r["task"], r["cases"]) for r in rows}) == 2
    seen = set(outcome.study.init("ours", 0).run.subjects)
    for name in {r["cases"] for r in rows}:
        held = json.loads((tmp_path / "study" / "cases" / f"{name}.json").read_text())
        assert held["subjects"]
        assert not seen & set(held["subjects"])
    before = outcome.rows.path.read_bytes()
    run_study(config, tmp_path / "study")
    assert outcome.rows.path.read_bytes() == before


def test_a_study_that_was_killed_goes_on(config, tmp_path, monkeypatch):
    calls, real = [], studies.WAYS["linear"]

    def dying(setting):
        calls.append(setting.cell)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(setting)

    config.blocks.all.ways = ("linear",)
    monkeypatch.setitem(studies.WAYS, "linear", dying)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, tmp_path)
    outcome = run_study(config, tmp_path)
    # Each run was begun once, but the one it was killed in.
    assert len(calls) == len(outcome.study.cells) + 1
    assert len(set(calls)) == len(outcome.study.cells)
    assert outcome.rows.path.read_text().count("\n") == len(outcome.study.cells)


def test_a_run_that_fails_is_a_row_and_the_others_go_on(config, tmp_path):
    config.blocks.all.update(
        {"ways": ("linear",), "per_class": (50,), "inits": ("ours",)}
    )
    config.blocks.all.draws = 1
    outcome = run_study(config, tmp_path)
    assert len(outcome.failed) == 2
    assert "train_per_class: wanted at most" in outcome.failed[0]["error"]
    assert len(outcome.rows.all()) == len(outcome.study.cells)
    assert len(outcome.study.curves(outcome.rows).tasks) == 2


def test_other_settings_are_other_runs_and_a_larger_grid_keeps_the_rows(
    config, tmp_path
):
    before = Study(config, tmp_path).digests
    config.blocks.all.fractions = (60, 80, 100)
    assert set(before.values()) < set(Study(config, tmp_path).digests.values())
    config.frozen.steps = 6
    changed = Study(config, tmp_path).digests
    assert all(changed[c] != d for c, d in before.items() if c.way == "frozen")
    assert all(changed[c] == d for c, d in before.items() if c.way == "linear")


def test_whole_runs_learn_from_the_same_subjects_as_probes(config, tmp_path):
    config.blocks.all.update({"ways": ("linear", "whole"), "repeats": 2})
    study = Study(config, tmp_path)
    drawn = {}
    for cell in study.cells:
        init, problem = study.of(cell)
        train = draw_cases(problem, cell)
        key = cell.task, cell.budget, cell.draw, cell.seed
        np.testing.assert_array_equal(drawn.setdefault(key, train), train)
        if cell.way == "whole" and cell.init == "ours":
            setting = Setting(config, tmp_path, cell, init, problem, train)
            plan = plan_finetuning(whole_config(setting))
            np.testing.assert_array_equal(plan.labels.split.train, train)
            np.testing.assert_array_equal(plan.labels.split.test, problem.split.test)


@pytest.mark.slow
def test_whole_runs_are_scored_and_leave_nothing_behind(config, tmp_path):
    config.blocks.all.update(
        {"ways": ("whole",), "tasks": ("sex",), "inits": ("ours",)}
    )
    config.blocks.all.fractions = (100,)
    outcome = run_study(config, tmp_path)
    (row,) = outcome.rows.all()
    assert not row["error"]
    assert 0 <= row["score"] <= 1
    assert not any((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("way", ["linear", pytest.param("whole", marks=SLOW)])
def test_another_packages_checkpoint_is_an_initialisation(config, tmp_path, way):
    # Volumes of 24 voxels, as the tiny cohort has them.
    small = {**TINY, "shape": 24, "patch": 8}
    stated = make_statement(
        recipe="canonical", spacing=8.0, settings=["heads=3"], origin="brainiac_v2"
    )
    convert(base(tmp_path / "base.ckpt", small), tmp_path / "theirs", stated)
    config.inits.theirs = ConfigDict({"kind": "run", "path": str(tmp_path / "theirs")})
    config.inits.drawn = ConfigDict({"kind": "scratch", "like": "theirs"})
    config.blocks.all.update(
        {"ways": (way,), "inits": ("theirs", "drawn"), "tasks": ("age",)}
    )
    config.blocks.all.fractions = (100,)
    outcome = run_study(config, tmp_path / "study")
    assert not outcome.failed
    scores = {row["init"]: row["score"] for row in outcome.rows.all()}
    assert set(scores) == {"theirs", "drawn"}
    assert scores["theirs"] != scores["drawn"]
    assert all(np.isfinite(score) for score in scores.values())


def test_the_command_line_writes_the_page(config, tmp_path, monkeypatch, capsys):
    config.blocks.all.update({"ways": ("linear",), "per_class": (50,)})
    monkeypatch.setattr("brainjax.configuration.load_config", lambda *given: config)
    words = ["study", "--config", "any.py", "--workdir", str(tmp_path)]
    assert main(words) == 2  # K = 50 has too few subjects: those runs failed
    said = capsys.readouterr()
    assert "runs were refused" in said.err
    page = (tmp_path / "report.html").read_text()
    assert "ours against the others" in page
    assert "Runs that failed" in page
    assert "<svg" in page
    assert "nan" not in (tmp_path / "differences.csv").read_text()


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("kind", "runn", "did you mean 'run'"),
        ("paths", "x", "config.inits.ours.paths: there is no such key"),
        ("path", "nowhere", "nowhere: wanted the folder of a run"),
    ],
)
def test_initialisations_that_cannot_be_are_refused(
    config, key, value, wanted, tmp_path
):
    config.inits.ours[key] = value
    with pytest.raises(InputRefusedError, match=wanted):
        Study(config, tmp_path)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_configs_of_studies_are_grids(path):
    text = path.read_text()
    assert f"--config configs/studies/{path.name}" in text.split('"""')[1]
    config = load_config(path)
    if "blocks" in config:  # else it pretrains what a study needs
        cells = make_grid(config)
        assert {cell.task for cell in cells} == set(config.tasks)
        assert {cell.init for cell in cells} == set(config.inits)


def test_others_are_held_against_the_pretrained_run_whatever_the_names(
    config, tmp_path
):
    config.inits.another = ConfigDict({"kind": "clinical", "columns": ("sex",)})
    assert next(iter(config.inits)) == "another"
    assert ours_of(Study(config, tmp_path / "study")) == "ours"
