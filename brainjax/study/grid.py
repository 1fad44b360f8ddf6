"""The grid of a study: which runs there are, each named by all that it depends on."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from brainjax.configuration import Config, construct, to_dict
from brainjax.errors import InputRefusedError
from brainjax.tasks.labels import chosen

WAYS = ("linear", "frozen", "whole")
"""How an encoder is used: a linear probe, a head that learns, all of it learns."""


class Budget(NamedTuple):
    """How many labelled subjects a run learns from.

    Attributes:
      fraction: percent of the training subjects; 0 where `per_class` counts.
      per_class: subjects of each class (numbers: of each fifth of their range).
    """

    fraction: float = 0.0
    per_class: int = 0

    @property
    def name(self) -> str:
        """For rows and file names: "k5", "p10"."""
        return f"k{self.per_class}" if self.per_class else f"p{self.fraction:g}"

    @property
    def words(self) -> str:
        """For readers: "K = 5", "10 %"."""
        return f"K = {self.per_class}" if self.per_class else f"{self.fraction:g} %"


class Cell(NamedTuple):
    """One run of a study.

    Attributes:
      task, init: names, keys of the config's `tasks` and `inits`.
      way: of `WAYS`.
      budget: of labels.
      draw: which of the draws of so few subjects.
      seed: of the network's start and of the order of its batches.
      fold: the one held out; 0 for a single split.
    """

    task: str
    init: str
    way: str
    budget: Budget
    draw: int = 0
    seed: int = 0
    fold: int = 0

    @property
    def name(self) -> str:
        """For people and for folders."""
        which = f"{self.budget.name}-draw{self.draw}-seed{self.seed}-fold{self.fold}"
        return f"{self.task}-{self.way}-{self.init}-{which}"


class Block(NamedTuple):
    """A part of the grid: every combination of what it lists."""

    tasks: tuple[str, ...]
    inits: tuple[str, ...]
    ways: tuple[str, ...]
    budgets: tuple[Budget, ...]
    draws: int
    repeats: int
    seed: int


def make_block(
    *,
    tasks: Sequence[str] = (),
    inits: Sequence[str] = (),
    ways: Sequence[str] = ("linear",),
    per_class: Sequence[int] = (),
    draws: int = 1,
    fractions: Sequence[float] = (),
    repeats: int = 1,
    seed: int = 0,
) -> Block:
    """Checks one block of `config.blocks`.

    Args:
      tasks, inits: names; all of the study's if empty.
      ways: of `WAYS`.
      per_class: K of each class, each with `draws` draws.
      fractions: percent of the training subjects, each `repeats` times, with another
        seed and (below 100) another draw.
      draws, repeats: how often.
      seed: of the first repeat.

    Raises:
      InputRefusedError: an unknown way, a budget that is none, no run at all.
    """
    for way in ways:
        chosen("config.blocks: way", way, WAYS)
    if any(k < 1 for k in per_class) or any(not 0 < p <= 100 for p in fractions):
        raise InputRefusedError(
            "config.blocks: wanted per_class of 1 or more and fractions over 0 to 100 "
            f"percent, got {tuple(per_class)} and {tuple(fractions)}"
        )
    budgets = [Budget(per_class=k) for k in per_class]
    budgets += [Budget(fraction=float(p)) for p in fractions]
    if not budgets or not ways or draws < 1 or repeats < 1:
        raise InputRefusedError(
            f"config.blocks: wanted budgets, ways, draws and repeats, got {per_class} "
            f"and {fractions}, {ways}, {draws}, {repeats}"
        )
    names = tuple(tasks), tuple(inits), tuple(ways)
    return Block(*names, tuple(budgets), draws, repeats, seed)


def make_grid(config: Config) -> list[Cell]:
    """Gives every run of a study, each once, in an order that loads little twice.

    Raises:
      InputRefusedError: a block names what the study does not have.
    """
    found: dict[Cell, None] = {}
    for name, settings in to_dict(config)["blocks"].items():
        block = construct(f"blocks.{name}", make_block, **settings)
        for cell in _cells(block, config):
            found[cell] = None
    if not found:
        raise InputRefusedError("config.blocks: wanted a run at least, got none")
    order = {way: place for place, way in enumerate(WAYS)}
    # What is quick comes first: a study that is stopped has most of its rows.
    return sorted(found, key=lambda c: (order[c.way], c.init, c.task, c.fold))


def _cells(block: Block, config: Config) -> Iterator[Cell]:
    """The runs of a block; of the clinical model only those that it can take."""
    folds = max(1, config.split.folds)
    for task in _named("tasks", block.tasks, config):
        for init in _named("inits", block.inits, config):
            clinical = config.inits[init].kind == "clinical"
            if clinical and not clinical_columns(config, task, init):
                continue
            for way in dict.fromkeys("linear" if clinical else w for w in block.ways):
                for budget, draw, seed in _repeats(block, way):
                    for fold in range(folds):
                        yield Cell(task, init, way, budget, draw, seed, fold)


def _repeats(block: Block, way: str) -> Iterator[tuple[Budget, int, int]]:
    """Budget, draw and seed; what would give the same answers twice is left out.

    Draws of so many a class share a seed; a share of all is drawn with another seed
    each time, so that at all labels, where there is nothing to draw, runs differ too.
    """
    for budget in block.budgets:
        everything = budget.fraction == 100
        count = block.draws if budget.per_class else block.repeats
        # A linear probe of all labels has nothing random in it.
        for number in range(1 if everything and way == "linear" else count):
            draw = 0 if everything else number
            seed = block.seed if budget.per_class else block.seed + number
            yield budget, draw, seed


def _named(section: str, names: Sequence[str], config: Config) -> list[str]:
    known = list(config[section])  # pyright: ignore[reportIndexIssue]
    for name in names:
        chosen(f"config.blocks: {section}", name, known)
    return list(names) or known


def clinical_columns(config: Config, task: str, init: str) -> tuple[str, ...]:
    """The covariates of the clinical model for a task: never what it is to answer."""
    keywords = config.tasks[task]
    asked = {str(keywords.get(key, "")) for key in ("target", "event")}
    return tuple(c for c in config.inits[init].columns if c not in asked)


def digest(value: Any) -> str:
    """Gives 12 hex characters that name a JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
