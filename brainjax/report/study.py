"""The page of a study: curves of score against labels, differences, and verdicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.configuration import to_dict
from brainjax.infer.table import write_table
from brainjax.records.writing import write_file
from brainjax.report import figures
from brainjax.report.html import read_template, safe
from brainjax.report.tables import Table
from brainjax.study.costs import duration
from brainjax.study.differences import Curves, Difference, Line, Point
from brainjax.study.rows import Rows
from brainjax.study.study import Study
from brainjax.study.verdicts import (
    NAMES,
    budget_words,
    comparisons,
    sentences,
    show,
    winners,
)

SIZE = (5.6, 3.2)
"""Inches of a chart."""


def write_study_report(study: Study, rows: Rows) -> Path:
    """Writes report.html, curves.csv and differences.csv into a study's folder.

    Returns:
      The page.

    Raises:
      MissingExtraError: matplotlib or jinja2 is not installed.
      InputRefusedError: a file cannot be written.
    """
    curves = study.curves(rows)
    found = comparisons(curves, ours_of(study))
    write_table(_point_columns(curves), study.folder / "curves.csv")
    write_table(_difference_columns(found), study.folder / "differences.csv")
    template = read_template("study.html.jinja")
    page = template.render(**_content(study, rows, curves, found))
    out = study.folder / "report.html"
    write_file(out, page.encode())
    return out


def ours_of(study: Study) -> str:
    """The initialisation that the others are held against: the first pretrained run.

    The first of all where there is none; a config has its names in their alphabet.
    """
    kinds = {name: init["kind"] for name, init in study.config.inits.items()}
    return next((name for name in kinds if kinds[name] == "run"), next(iter(kinds)))


def _content(
    study: Study, rows: Rows, curves: Curves, found: list[Difference]
) -> dict[str, Any]:
    mine = [rows.get(name) for name in study.digests.values()]
    known = [row for row in mine if row is not None]
    return {
        "title": f"Study {study.folder.name}",
        "version": __version__,
        "verdicts": winners(curves),
        "ours": ours_of(study),
        "sentences": sentences(found),
        "count": len(found),
        "charts": [_chart(curves, task) for task in curves.tasks],
        "scores": [_score_table(curves, task) for task in curves.tasks],
        "differences": _difference_table(found) if found else None,
        "failures": [(row["name"], row["error"]) for row in known if row["error"]],
        "done": len(known),
        "total": len(mine),
        "hours": duration(sum(row["seconds"] for row in known)),
        "config": json.dumps(to_dict(study.config), indent=1),
    }


def _chart(curves: Curves, task: str) -> Any:
    return safe(figures.draw(plot_curves, curves.points(task), task, size=SIZE))


def plot_curves(axes: Any, points: list[Point], task: str) -> None:
    """Score by labelled cases, a line for each way and initialisation."""
    for number, line in enumerate(dict.fromkeys(point.line for point in points)):
        mine = sorted((p for p in points if p.line == line), key=lambda p: p.labels)
        values = np.array([p.score.value for p in mine])
        spread = np.array([(p.score.low, p.score.high) for p in mine]).T
        axes.errorbar(
            # Moved a little aside, so that intervals do not hide each other.
            [p.labels * 1.03**number for p in mine],
            values,
            yerr=np.nan_to_num(np.abs(spread - values)),
            color=figures.SERIES[number % len(figures.SERIES)],
            linestyle="--" if number >= len(figures.SERIES) else "-",
            marker="o",
            markersize=3,
            linewidth=1.2,
            elinewidth=0.7,
            label=line.words,
        )
    unit = f" ({points[0].unit})" if points[0].unit else ""
    axes.set_xscale("log")
    ticks = _apart({point.labels for point in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
    axes.set(
        xlabel="labelled training cases",
        ylabel=f"{NAMES[points[0].score_name]}{unit}",
        title=task,
    )


def _apart(counts: set[float]) -> list[float]:
    """The counts whose labels do not lie on each other on a logarithmic axis."""
    kept: list[float] = []
    for count in sorted(counts):
        if not kept or count > 1.3 * kept[-1]:
            kept.append(count)
    return kept


def _score_table(curves: Curves, task: str) -> Table:
    points = curves.points(task)
    unit = f", {points[0].unit}" if points[0].unit else ""
    budgets = curves.budgets(task)
    cells = {(p.line, p.budget): p for p in points}
    rows = [
        [line.words, *(_cell(cells.get((line, budget))) for budget in budgets)]
        for line in curves.lines(task)
    ]
    title = f"{task}: {NAMES[points[0].score_name]}{unit} [95 % interval]"
    return Table(title, ["", *map(budget_words, budgets)], rows)


def _cell(point: Point | None) -> str:
    if point is None:
        return "–"
    value, low, high, *_ = point.score
    return f"{show(value)} [{show(low)}, {show(high)}]"


def _difference_table(found: list[Difference]) -> Table:
    head = ["task", "ours", "theirs", "labels", "better by", "95 % interval", "runs"]
    rows = [
        [
            *(d.ours.task, d.ours.words, d.theirs.words, budget_words(d.budget)),
            show(d.gain.value, d.unit),
            f"{show(d.gain.low)} to {show(d.gain.high)}",
            str(d.gain.repeats),
        ]
        for d in found
    ]
    return Table("", head, rows)


def _point_columns(curves: Curves) -> dict[str, list[Any]]:
    points = [point for task in curves.tasks for point in curves.points(task)]
    return {
        **{name: [getattr(p.line, name) for p in points] for name in Line._fields},
        "budget": [p.budget for p in points],
        "labels": [p.labels for p in points],
        "score_name": [p.score_name for p in points],
        "unit": [p.unit for p in points],
        **_estimates([p.score for p in points]),
    }


def _difference_columns(found: list[Difference]) -> dict[str, list[Any]]:
    return {
        "task": [d.ours.task for d in found],
        "ours": [d.ours.words for d in found],
        "theirs": [d.theirs.words for d in found],
        "budget": [d.budget for d in found],
        "unit": [d.unit for d in found],
        **_estimates([d.gain for d in found]),
    }


def _estimates(found: list[Any]) -> dict[str, list[Any]]:
    names = ("value", "low", "high", "repeats", "subjects")
    return {name: [getattr(e, name) for e in found] for name in names}
