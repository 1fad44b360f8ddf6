"""What a study showed, in sentences that follow from paired differences."""

import math
from collections.abc import Iterator

from brainjax.study.differences import Curves, Difference, Line, Point
from brainjax.study.grid import Budget
from brainjax.study.scoring import LOWER_IS_BETTER

NAMES = {
    "mae": "mean absolute error",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "c_index": "C-index",
}


def winners(curves: Curves) -> list[str]:
    """One sentence a task: at each budget the best line against the next best.

    The two are picked by their scores, so that the interval flatters the best a little;
    differences that were not picked are those of `comparisons`.
    """
    return [_winner(curves, task) for task in curves.tasks]


def comparisons(curves: Curves, ours: str) -> list[Difference]:
    """Every difference between an initialisation and the others in the same way.

    The clinical model, which has one way only, is compared with all of them.
    """
    found = []
    for task in curves.tasks:
        for mine, theirs in _opponents(curves.lines(task), ours):
            for budget in curves.budgets(task):
                difference = curves.difference(mine, theirs, budget)
                if difference is not None:
                    found.append(difference)
    return found


def sentences(differences: list[Difference]) -> list[str]:
    """One sentence a task, way and opponent, over all budgets."""
    pairs = dict.fromkeys((found.ours, found.theirs) for found in differences)
    return [
        _sentence([d for d in differences if (d.ours, d.theirs) == pair])
        for pair in pairs
    ]


def budget_words(name: str) -> str:
    """For readers: "k5" is "K = 5", "p10" is "10 %"."""
    number = float(name[1:])
    if name.startswith("k"):
        return Budget(per_class=int(number)).words
    return Budget(fraction=number).words


def show(value: float, unit: str = "") -> str:
    """A number with two decimals, three where there is no unit."""
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def _opponents(lines: list[Line], ours: str) -> Iterator[tuple[Line, Line]]:
    mine = [line for line in lines if line.init == ours]
    for line in mine:
        for other in lines:
            alone = not any(m.init == other.init and m.way == line.way for m in lines)
            if other.init != ours and (other.way == line.way or alone):
                yield line, other


def _winner(curves: Curves, task: str) -> str:
    clauses = []
    for budget in curves.budgets(task):
        points = [p for p in curves.points(task) if p.budget == budget]
        points = [p for p in points if math.isfinite(p.score.value)]
        if not points:
            continue
        points.sort(key=_badness)
        best = points[0]
        rival = next((p for p in points if p.line.init != best.line.init), None)
        clauses.append(_clause(curves, best, rival))
    if not clauses:
        return f"{task}: no score could be computed."
    return f"{task}: {'; '.join(clauses)}."


def _clause(curves: Curves, best: Point, rival: Point | None) -> str:
    at = f"at {budget_words(best.budget)}"
    reached = f"{NAMES[best.score_name]} {show(best.score.value, best.unit)}"
    if rival is None:
        return f"{at} {best.line.words} alone was run ({reached})"
    found = curves.difference(best.line, rival.line, best.budget)
    theirs = f"{rival.line.words} ({show(rival.score.value, rival.unit)})"
    if found is None or not found.shown:
        return (
            f"{at} no difference could be shown between {best.line.words} ({reached}) "
            f"and {theirs}{_interval(found)}"
        )
    return (
        f"{at} {best.line.words} won ({reached}), by "
        f"{show(found.gain.value, found.unit)} over {theirs}{_interval(found)}"
    )


def _badness(point: Point) -> float:
    sign = 1 if point.score_name in LOWER_IS_BETTER else -1
    return sign * point.score.value


def _interval(found: Difference | None) -> str:
    if found is None:
        return ""
    value, low, high, repeats, subjects = found.gain
    middle = "" if found.shown else f"{_signed(value, found.unit)}, "
    return (
        f" [{middle}95 % interval {_bare(low, found.unit)} to "
        f"{_bare(high, found.unit)}, "
        f"{_count(repeats, 'run')}, {subjects} subjects]"
    )


def _sentence(found: list[Difference]) -> str:
    ours, theirs = found[0].ours, found[0].theirs
    parts = []
    for verb, chosen in (
        ("better", [d for d in found if d.gain.low > 0]),
        ("worse", [d for d in found if d.gain.high < 0]),
    ):
        if chosen:
            parts.append(f"{verb} {' and '.join(_by(d) for d in chosen)}")
    unclear = [d for d in found if not d.shown]
    if unclear:
        listed = ", ".join(f"{budget_words(d.budget)}{_interval(d)}" for d in unclear)
        parts.append(f"no difference could be shown at {listed}")
    return f"{ours.task}: {ours.words} against {theirs.words}: {'; '.join(parts)}."


def _by(found: Difference) -> str:
    amount = show(abs(found.gain.value), found.unit)
    return f"at {budget_words(found.budget)} by {amount}{_interval(found)}"


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else ''}{show(value, unit)}"


def _bare(value: float, unit: str) -> str:
    """A number with the digits of its unit and without its name."""
    return _signed(value, unit).removesuffix(f" {unit}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
