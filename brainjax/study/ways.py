"""The ways in which a run of a study answers: linear probe, frozen head, whole."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from brainjax.configuration import Config, to_dict
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.infer.evaluation import evaluate_run
from brainjax.study.clinical import covariates
from brainjax.study.draws import selection_words
from brainjax.study.features import frozen_features
from brainjax.study.grid import Cell, clinical_columns
from brainjax.study.inits import Init, data_path
from brainjax.study.probes import probe_outputs
from brainjax.study.problems import Problem, case_features, flat_features
from brainjax.tasks import Task
from brainjax.train.finetune import finetune
from brainjax.train.frozen import fit_head
from brainjax.train.restore import load_run, refuse_seen_subjects

Outputs = tuple[Task, Float[np.ndarray, "n k"]]
"""A fitted task, and its outputs for the test cases."""


class Setting(NamedTuple):
    """What a run of a study is done with.

    Attributes:
      config: of the study; folder: of it.
      cell: the run; init, problem: what it names; train: cases it learns from.
    """

    config: Config
    folder: Path
    cell: Cell
    init: Init
    problem: Problem
    train: Int[np.ndarray, " n"]

    @property
    def values(self) -> list[Any]:
        """Labels of the training cases."""
        return [self.problem.values[int(i)] for i in self.train]


def answer_linear(setting: Setting) -> Outputs:
    """Fits a linear model to features that do not move, or to covariates."""
    problem, train = setting.problem, setting.train
    task = problem.fit(train, plain=True)
    features = _features(setting)
    subjects = problem.subjects(train)
    test = features[problem.split.test]
    found = probe_outputs(task, features[train], setting.values, subjects, test)
    return task, found


def _features(setting: Setting) -> Float[np.ndarray, "n d"]:
    if setting.init.kind == "clinical":
        cell, problem = setting.cell, setting.problem
        columns = clinical_columns(setting.config, cell.task, cell.init)
        return covariates(problem.cases.labels, columns, setting.train)
    return flat_features(setting.problem, _encoded(setting))


def _encoded(setting: Setting) -> Float[np.ndarray, "n d"]:
    seed = setting.config.seed
    dataset = setting.problem.dataset
    return frozen_features(setting.folder, setting.init, dataset, seed=seed)


def answer_frozen(setting: Setting) -> Outputs:
    """Trains the task's head on features that do not move; no label but its own."""
    problem, train, test = setting.problem, setting.train, setting.problem.split.test
    features, present = case_features(problem, _encoded(setting))
    task = problem.fit(train)
    fitted = fit_head(
        task,
        features[train],
        setting.values,
        present=None if present is None else present[train],
        fusion=problem.fusion,
        seed=setting.cell.seed,
        **to_dict(setting.config)["frozen"],
    )
    there = None if present is None else present[test]
    return task, fitted.predict(features[test], there)


def answer_whole(setting: Setting) -> Outputs:
    """Fine-tunes the encoder with its head in a run of its own.

    Only the last step is saved, so that no label but the budget's decides anything.
    """
    run_folder = setting.folder / "runs" / setting.cell.name
    problem = setting.problem
    finetune(whole_config(setting), run_folder)
    run = load_run(run_folder)
    assert run.task is not None
    tested = problem.subjects(problem.split.test)
    refuse_seen_subjects(run, tested, setting.config.data.path)
    encode = make_encode(run.graphdef, view=run.view, method="__call__")
    volumes = (problem.cases.read(int(i)) for i in problem.split.test)
    outputs = encode_scans(encode, run.params, run.batch_stats, volumes)
    if setting.config.keep:
        evaluate_run(run_folder)
    else:
        shutil.rmtree(run_folder, ignore_errors=True)
    return run.task, outputs


def whole_config(setting: Setting) -> ConfigDict:
    """Gives the config of the fine-tuning run of a cell, as `finetune` takes it."""
    config, cell, init, problem = (
        *(setting.config, setting.cell, setting.init, setting.problem),
    )
    tuning = to_dict(config)["finetune"]
    optimizer = {**tuning["optimizer"], **(init.optimizer or {})}
    train = {"save_every": tuning["train"]["steps"], **tuning["train"]}
    made = {
        "seed": cell.seed,
        "init": init.path,
        "weights": "pretrained" if init.pretrained else "random",
        "mode": "whole",
        "view": [] if init.path else list(init.view),
        "encoder": init.encoder or {},
        "data": {
            "path": str(data_path(init, config)),
            **selection_words(cell),
            "sequences": list(problem.sequences),
        },
        "split": problem.splitting,
        "task": problem.keywords,
        "fusion": problem.fusion,
        "augment": tuning["augment"],
        "head": tuning["head"],
        "optimizer": optimizer,
        "train": train,
        "mesh": tuning.get("mesh") or {"data": -1, "fsdp": 1},
        "profile_steps": (),
    }
    return ConfigDict(made).lock()


WAYS = {"linear": answer_linear, "frozen": answer_frozen, "whole": answer_whole}
"""By the name in a block: setting -> fitted task and outputs for the test cases."""
