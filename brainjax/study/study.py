"""A study: a grid of runs, each a row, from which curves and verdicts follow."""

import logging
import math
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax

from brainjax.configuration import Config, need, to_dict
from brainjax.errors import InputRefusedError
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.study import costs
from brainjax.study.differences import Cases, Curves
from brainjax.study.draws import draw_cases
from brainjax.study.features import features_path, hash_dataset
from brainjax.study.grid import Cell, digest, make_grid
from brainjax.study.inits import Init, data_path, make_init, seen_subjects
from brainjax.study.problems import Problem, hash_values, make_problem
from brainjax.study.rows import Row, Rows
from brainjax.study.scoring import give_answers, score_name, score_of
from brainjax.study.ways import WAYS, Setting
from brainjax.train.folder import read_json, write_json
from brainjax.train.lock import lock, release
from brainjax.train.restore import refuse_other_recipe

log = logging.getLogger("brainjax")

VERSION = 1
"""Of what a row means: a change makes every run a new one."""
NEEDED = ("data", "split", "tasks", "inits", "blocks", "frozen", "finetune", "keep")


class Study:
    """A study in its folder: what is to run, what has, and what it needs.

    rows.jsonl has a line a run, cases/ whom they were tested on, features/ what frozen
    encoders gave, runs/ the run that is going on; rows.csv and rows.parquet are tables.

    Args:
      config: as in configs/studies/.
      workdir: the folder; it may hold rows of an earlier call, of a smaller grid too.

    Raises:
      InputRefusedError: a setting, a run or a data set cannot be used.
    """

    def __init__(self, config: Config, workdir: str | Path):
        need(config, *NEEDED)
        self.config, self.folder = config, Path(workdir)
        self.cells = make_grid(config)
        self.init = cache(self._init)
        self.dataset = cache(open_dataset)
        self.hash = cache(lambda path: hash_dataset(self.dataset(path)))
        self.problem = cache(self._problem)
        self.digests = {cell: self._digest(cell) for cell in self.cells}

    def costs(self, rows: Rows) -> tuple[list[Cell], list[costs.Cost]]:
        """Gives the runs that have no row yet, and what they will cost."""
        todo = [c for c in self.cells if not rows.finished(self.digests[c])]
        train = self.config.finetune.train
        measured = cache(self._seconds_per_scan)
        parts = costs.estimate(
            todo, rows.all(), self._unencoded(todo), measured, train.steps * train.batch
        )
        return todo, parts

    def run(self, rows: Rows, todo: Sequence[Cell]) -> list[Row]:
        """Does the runs one after the other; gives the rows of those that failed."""
        failed, began = [], perf_counter()
        for number, cell in enumerate(todo, start=1):
            row = self._row(cell)
            rows.append(row)
            failed += [row] if row["error"] else []
            spent = perf_counter() - began
            log.info(
                "%d of %d  %s  %s  (%.1f s; about %s left)",
                *(number, len(todo), cell.name, _in_words(row), row["seconds"]),
                costs.duration(spent / number * (len(todo) - number)),
            )
        return failed

    def curves(self, rows: Rows) -> Curves:
        """Gives the curves of the rows that the grid has and that have no error."""
        found = [rows.get(self.digests[cell]) for cell in self.cells]
        good = [row for row in found if row is not None and not row["error"]]
        return Curves(good, {row["cases"]: self._cases(row["cases"]) for row in good})

    def _init(self, name: str, fold: int) -> Init:
        init = make_init(self.config, name, fold)
        if init.run is not None:
            data = data_path(init, self.config)
            refuse_other_recipe(init.run, self.dataset(data).recipe, data)
        return init

    def _problem(self, task: str, data: Path, fold: int) -> Problem:
        names = dict.fromkeys(cell.init for cell in self.cells)
        seen = seen_subjects([self.init(name, fold) for name in names])
        splitting = {**to_dict(self.config)["split"], "fold": fold}
        settings = to_dict(self.config)["tasks"][task]
        return make_problem(task, settings, data, splitting, seen)

    def of(self, cell: Cell) -> tuple[Init, Problem]:
        """Gives what a run starts from, and its task on its data."""
        init = self.init(cell.init, cell.fold)
        data = data_path(init, self.config)
        return init, self.problem(cell.task, data, cell.fold)

    def _digest(self, cell: Cell) -> str:
        """Names a run by all that its answers depend on."""
        init, problem = self.of(cell)
        words = to_dict(self.config)
        settings: dict[str, Any] = {"way": cell.way, "seed": cell.seed}
        if cell.way == "frozen":
            settings["head"] = words["frozen"]
        if cell.way == "whole":
            settings |= {"finetune": words["finetune"], "changed": init.optimizer}
        if cell.way != "whole" and not init.pretrained:
            settings["encoder_seed"] = self.config.seed
        where = self.hash(data_path(init, self.config)), hash_values(problem)
        what = (problem.keywords, problem.sequences, problem.fusion, cell.budget)
        names = (VERSION, cell.task, init.name, init.kind, init.identity)
        return digest([names, where, what, cell.draw, cell.fold, settings])

    def _row(self, cell: Cell) -> Row:
        """Does one run; what goes wrong is in its row."""
        init, problem = self.of(cell)
        start = perf_counter()
        row = self._facts(cell, problem)
        try:
            train = draw_cases(problem, cell)
            people = len(set(problem.subjects(train)))
            row |= {"n_train": len(train), "train_subjects": people}
            setting = Setting(
                *(self.config, self.folder, cell, init, problem, train),
            )
            row |= self._scored(problem, *WAYS[cell.way](setting))
        except InputRefusedError as error:
            row["error"] = str(error)
        except Exception as error:  # one run must not cost the others
            log.debug("%s", traceback.format_exc())
            row["error"] = " ".join(f"{type(error).__name__}: {error}".split())
        if row["error"]:
            shutil.rmtree(self.folder / "runs" / cell.name, ignore_errors=True)
        return row | {"seconds": round(perf_counter() - start, 3)}

    def _facts(self, cell: Cell, problem: Problem) -> Row:
        return {
            "digest": self.digests[cell],
            "name": cell.name,
            "task": cell.task,
            "target": problem.task.target,
            "unit": problem.task.unit if score_name(problem.task) == "mae" else "",
            "way": cell.way,
            "init": cell.init,
            "budget": cell.budget.name,
            "fraction": cell.budget.fraction,
            "per_class": cell.budget.per_class,
            "draw": cell.draw,
            "seed": cell.seed,
            "fold": cell.fold,
            "score_name": score_name(problem.task),
            "score": None,
            "n_train": 0,
            "train_subjects": 0,
            "n_test": len(problem.split.test),
            "error": "",
        }

    def _scored(self, problem: Problem, task: Any, outputs: Any) -> Row:
        held = problem.held_out()
        answers = give_answers(task, outputs)
        score = score_of(score_name(problem.task), held.truth, answers)
        if not math.isfinite(score):
            raise InputRefusedError(f"the {score_name(problem.task)} is not finite")
        return {"score": score, "cases": self._keep(held), "answers": answers}

    def _keep(self, held: Cases) -> str:
        """Writes whom a run was tested on, once; gives its name."""
        name = digest(held)
        path = self.folder / "cases" / f"{name}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, held._asdict())
        return name

    def _cases(self, name: str) -> Cases:
        return Cases(**read_json(self.folder / "cases" / f"{name}.json"))

    def _unencoded(self, todo: Sequence[Cell]) -> dict[str, int]:
        """Scans that are to be encoded, by initialisation."""
        missing: dict[Path, tuple[str, int]] = {}
        for cell in todo:
            init, problem = self.of(cell)
            if cell.way == "whole" or init.kind == "clinical":
                continue
            seed = self.config.seed
            path = features_path(self.folder, init, problem.dataset, seed)
            if not path.is_file():
                missing[path] = (init.name, len(problem.dataset))
        counts: dict[str, int] = {}
        for name, count in missing.values():
            counts[name] = counts.get(name, 0) + count
        return counts

    def _seconds_per_scan(self, name: str) -> float:
        init = self.init(name, 0)
        dataset: RecordDataset = self.dataset(data_path(init, self.config))
        return costs.seconds_per_scan(init, dataset)


class Outcome(NamedTuple):
    """What a call of a study did: the study, its rows, the runs that failed."""

    study: Study
    rows: Rows
    failed: list[Row]


def run_study(config: Config, workdir: str | Path, *, dry_run: bool = False) -> Outcome:
    """Says what a study costs, does the runs that have no row yet, writes the tables.

    Args:
      config: as in configs/studies/.
      workdir: the study's folder.
      dry_run: only say it.

    Raises:
      InputRefusedError: a setting, a run or a data set cannot be used, or another
        process writes into the folder.
    """
    if not dry_run:
        _keep_programs(Path(workdir) / "programs")
    study = Study(config, workdir)
    rows = Rows(study.folder)
    todo, parts = study.costs(rows)
    costs.show_costs(study.folder, len(study.cells), len(todo), parts)
    if dry_run:
        return Outcome(study, rows, [])
    with _locked(study.folder):
        write_json(study.folder / "study.json", to_dict(config))
        try:
            failed = study.run(rows, todo)
        finally:
            rows.write_tables(study.digests.values())
    return Outcome(study, rows, failed)


def _keep_programs(folder: Path) -> None:
    """Compiles each program of a study once, where no other place is set for them."""
    place = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if place is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lock(folder / ".lock")
    try:
        yield
    finally:
        release(folder / ".lock")


def _in_words(row: Row) -> str:
    if row["error"]:
        return f"failed: {row['error']}"
    return f"{row['score_name']} {row['score']:.3f}"
