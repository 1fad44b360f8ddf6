"""From the rows of a study to curves and paired differences, with 95 % intervals.

An interval is over the held-out subjects and over the draws: both are resampled, and
two initialisations on the same resamples, as they learnt from the same draws and
answered for the same subjects. Where there was one draw only, it is over subjects.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.study.rows import Row
from brainjax.study.scoring import LOWER_IS_BETTER, make_statistic

SAMPLES = 1000
SEED = 0

Repeat = tuple[int, int]
"""Draw and seed."""


class Line(NamedTuple):
    """A line of a curve: how a task was answered."""

    task: str
    way: str
    init: str

    @property
    def words(self) -> str:
        """For readers: "pretrained, whole"."""
        return self.init if self.init == "clinical" else f"{self.init}, {self.way}"


class Estimate(NamedTuple):
    """A mean over repeats: value, 95 % interval, repeats, held-out subjects."""

    value: float
    low: float
    high: float
    repeats: int
    subjects: int


class Point(NamedTuple):
    """A point of a curve.

    Attributes:
      labels: labelled training cases, the mean over repeats.
      score: with its interval.
    """

    line: Line
    budget: str
    labels: float
    score_name: str
    unit: str
    score: Estimate


class Difference(NamedTuple):
    """How much better `ours` is than `theirs`; above 0 it is, whatever the score.

    Attributes:
      gain: in `unit`, paired by draw, seed and held-out subject.
    """

    ours: Line
    theirs: Line
    budget: str
    unit: str
    gain: Estimate

    @property
    def shown(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.gain.low > 0 or self.gain.high < 0


class Cases(NamedTuple):
    """Held-out cases of a task and fold, as every run of it answered for them."""

    sources: list[str]
    subjects: list[str]
    truth: list[Any]


class Curves:
    """The scores of all lines and budgets, resampled alike.

    Args:
      rows: those without an error.
      cases: held-out cases by their digest.
      samples: of the bootstrap.
    """

    def __init__(
        self, rows: Sequence[Row], cases: Mapping[str, Cases], samples: int = SAMPLES
    ):
        self.samples, self.cases = samples, cases
        self.rows: dict[tuple[Line, str], dict[Repeat, list[Row]]] = {}
        for row in rows:
            key = Line(row["task"], row["way"], row["init"]), row["budget"]
            repeats = self.rows.setdefault(key, {})
            repeats.setdefault((row["draw"], row["seed"]), []).append(row)
        for repeats in self.rows.values():
            _keep_whole(repeats)
        self._scores: dict[tuple[Line, str], dict[Repeat, np.ndarray]] = {}
        self._drawn: dict[tuple[str, ...], Float[np.ndarray, "r n"]] = {}

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of the rows."""
        return list(dict.fromkeys(line.task for line, _ in self.rows))

    def lines(self, task: str) -> list[Line]:
        """The lines of a task."""
        return list(dict.fromkeys(line for line, _ in self.rows if line.task == task))

    def budgets(self, task: str) -> list[str]:
        """The budgets of a task, the fewest labels first."""
        found = {b for line, b in self.rows if line.task == task}
        return sorted(found, key=lambda b: self._labels(task, b))

    def points(self, task: str) -> list[Point]:
        """The curve of every line of a task."""
        return [
            self.point(line, budget)
            for line in self.lines(task)
            for budget in self.budgets(task)
            if self.rows.get((line, budget))
        ]

    def point(self, line: Line, budget: str) -> Point:
        """Mean score of a line at a budget."""
        scores = list(self._resampled(line, budget).values())
        row = self._row(line, budget)
        estimate = self._estimate(np.array(scores), self._subjects(line, budget))
        labels = self._labels(line.task, budget, line)
        return Point(line, budget, labels, row["score_name"], row["unit"], estimate)

    def difference(self, ours: Line, theirs: Line, budget: str) -> Difference | None:
        """How much better a line is than another; None where one was not run."""
        if not (self.rows.get((ours, budget)) and self.rows.get((theirs, budget))):
            return None
        one, other = self._resampled(ours, budget), self._resampled(theirs, budget)
        pairs = _pair(one, other)
        if not pairs or len(pairs[0][0]) != len(pairs[0][1]):
            return None
        row = self._row(ours, budget)
        sign = -1 if row["score_name"] in LOWER_IS_BETTER else 1
        gains = sign * np.array([a - b for a, b in pairs])
        estimate = self._estimate(gains, self._subjects(ours, budget))
        return Difference(ours, theirs, budget, row["unit"], estimate)

    def _resampled(self, line: Line, budget: str) -> dict[Repeat, np.ndarray]:
        """Per repeat: the score of all cases, then of every resample."""
        key = line, budget
        if key not in self._scores:
            self._scores[key] = {
                repeat: self._score(rows) for repeat, rows in self.rows[key].items()
            }
        return self._scores[key]

    def _score(self, rows: list[Row]) -> Float[np.ndarray, " r"]:
        parts = [self.cases[row["cases"]] for row in rows]
        truth = [value for part in parts for value in part.truth]
        answers = [answer for row in rows for answer in row["answers"]]
        subjects = [name for part in parts for name in part.subjects]
        statistic = make_statistic(rows[0]["score_name"], truth, answers)
        return statistic(self._weights(tuple(subjects)))

    def _weights(self, subjects: tuple[str, ...]) -> Float[np.ndarray, "r n"]:
        """Ones, then how often each case is drawn; equal for equal subjects."""
        if subjects not in self._drawn:
            groups = np.unique(subjects, return_inverse=True)[1]
            n = int(groups.max()) + 1
            generator = np.random.default_rng(SEED)
            counts = generator.multinomial(n, np.full(n, 1 / n), size=self.samples)
            ones = np.ones((1, len(groups)))
            self._drawn[subjects] = np.concatenate([ones, counts[:, groups]])
        return self._drawn[subjects]

    def _estimate(self, scores: Float[np.ndarray, "k r"], subjects: int) -> Estimate:
        """The mean over repeats; repeats are drawn anew in every resample."""
        count = len(scores)
        value = float(scores[:, 0].mean())
        generator = np.random.default_rng(SEED + 1)
        times = generator.multinomial(count, np.full(count, 1 / count), self.samples).T
        drawn = (np.where(times > 0, scores[:, 1:], 0) * times).sum(0) / count
        drawn = drawn[np.isfinite(drawn)]
        if subjects < 2 or not len(drawn):
            return Estimate(value, np.nan, np.nan, count, subjects)
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Estimate(value, float(low), float(high), count, subjects)

    def _row(self, line: Line, budget: str) -> Row:
        return next(iter(self.rows[line, budget].values()))[0]

    def _subjects(self, line: Line, budget: str) -> int:
        rows = next(iter(self.rows[line, budget].values()))
        return len({s for row in rows for s in self.cases[row["cases"]].subjects})

    def _labels(self, task: str, budget: str, line: Line | None = None) -> float:
        found = [
            row["n_train"]
            for (one, name), repeats in self.rows.items()
            if name == budget and one.task == task and line in (None, one)
            for rows in repeats.values()
            for row in rows
        ]
        return float(np.mean(found)) if found else 0.0


def _keep_whole(repeats: dict[Repeat, list[Row]]) -> None:
    """Leaves out repeats that lack a fold which another one has; sorts by fold."""
    most = max(len(rows) for rows in repeats.values())
    for repeat in [key for key, rows in repeats.items() if len(rows) < most]:
        del repeats[repeat]
    for rows in repeats.values():
        rows.sort(key=lambda row: row["fold"])
        assert all(a["fold"] < b["fold"] for a, b in pairwise(rows))


def _pair(one: dict[Repeat, Any], other: dict[Repeat, Any]) -> list[tuple[Any, Any]]:
    """Repeats of the same draw and seed; a lone one with every seed of its draw.

    At all labels there is one draw, of which a linear probe has one run, as nothing in
    it is random, and a network one a seed.
    """
    draws = {draw for draw, _ in (*one, *other)}
    if min(len(one), len(other)) == 1 and len(draws) == 1:
        return [(a, b) for a in one.values() for b in other.values()]
    return [(one[key], other[key]) for key in one if key in other]
