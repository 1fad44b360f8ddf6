"""Charts of a notebook's pictures, drawn into axes; colours for a light ground."""

from typing import Any

import numpy as np
from jaxtyping import Float

from brainjax.report.figures import categories, is_continuous
from brainjax.report.load import number, series

COLOURS = ("#1f6fa8", "#c8641b", "#2a8a5f", "#a8478a", "#7a6a1f", "#555555")
GREY = "#777777"


def plot_training(axes: Any, metrics: list[dict[str, float]]) -> None:
    """Loss by step; a dot is a validation, the lowest of which is kept."""
    axes.plot(*series(metrics, "loss"), color=COLOURS[0], label="training")
    steps, losses = series(metrics, "validation/loss")
    axes.plot(steps, losses, "o-", color=COLOURS[1], markersize=3, label="validation")
    if np.isfinite(losses).any():
        best = np.nanargmin(losses)
        style: dict[str, Any] = {"s": 70, "facecolors": "none", "zorder": 3}
        axes.scatter(
            *(steps[best], losses[best]), edgecolors=COLOURS[1], label="kept", **style
        )
    axes.legend(loc="best")
    axes.set(xlabel="step", ylabel="loss")


def plot_regression(axes: Any, about: dict, rows: list[dict[str, str]]) -> None:
    true, answers = (_column(rows, name) for name in ("target", "prediction"))
    both = np.concatenate([true, answers])
    pad = 0.06 * max(np.ptp(both), 1e-6)
    ends = (both.min() - pad, both.max() + pad)
    axes.plot(ends, ends, "--", color=GREY, linewidth=0.8)
    if "low" in rows[0]:
        low, high = _column(rows, "low"), _column(rows, "high")
        share = f"{float(rows[0]['coverage']):.0%} interval"
        held = np.mean((low <= true) & (true <= high))
        axes.vlines(
            true,
            low,
            high,
            color=COLOURS[0],
            alpha=0.3,
            linewidth=1.2,
            label=f"{share}, holds {held:.0%} here",
        )
        axes.legend(loc="upper left")
    axes.scatter(true, answers, s=14, color=COLOURS[0], zorder=2)
    mae = about["metrics"]["mae"]
    unit = f" {about['unit']}" if about["unit"] else ""
    axes.set(
        xlabel=f"true {about['target']}",
        ylabel=f"predicted {about['target']}",
        title=f"MAE {mae['value']:.1f}{unit} ({mae['low']:.1f} to {mae['high']:.1f})",
    )


def plot_classes(axes: Any, about: dict, rows: list[dict[str, str]]) -> None:
    pairs = [(row["target"], row["prediction"]) for row in rows]
    names = sorted({name for pair in pairs for name in pair})
    counts = np.zeros((len(names), len(names)), int)
    for true, answer in pairs:
        counts[names.index(true), names.index(answer)] += 1
    axes.imshow(counts, cmap="Blues", vmin=0)
    for (i, j), count in np.ndenumerate(counts):
        ink = "white" if count > 0.6 * counts.max() else "black"
        axes.text(j, i, str(count), ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    found = about["metrics"]["balanced_accuracy"]
    axes.set(
        xlabel=f"predicted {about['target']}",
        ylabel=f"true {about['target']}",
        title=f"balanced accuracy {found['value']:.2f} "
        f"({found['low']:.2f} to {found['high']:.2f})",
    )


def plot_survival(axes: Any, about: dict, rows: list[dict[str, str]]) -> None:
    times, risks = _column(rows, "target"), _column(rows, "prediction")
    came = _column(rows, "event") == 1
    axes.scatter(times[came], risks[came], s=18, color=COLOURS[0], label="event")
    axes.scatter(
        *(times[~came], risks[~came]),
        s=18,
        facecolors="none",
        edgecolors=COLOURS[0],
        label="last seen without it",
    )
    axes.legend(loc="best")
    found = about["metrics"]["c_index"]
    axes.set(
        xlabel=f"{about['target']} ({about['unit']})",
        ylabel="risk (relative)",
        title=f"C-index {found['value']:.2f} "
        f"({found['low']:.2f} to {found['high']:.2f})",
    )


PLOTS = {
    "regression": plot_regression,
    "classification": plot_classes,
    "survival": plot_survival,
}
"""How answers of a kind of task are drawn."""


def plot_points(
    axes: Any, points: Float[np.ndarray, "n 2"], values: list, by: str
) -> None:
    there = np.array([value is not None for value in values])
    dots: dict[str, Any] = {"s": 22, "linewidths": 0}
    axes.scatter(*points[~there].T, color=GREY, alpha=0.5, **dots)
    known = [value for value in values if value is not None]
    if is_continuous(known):
        drawn = axes.scatter(*points[there].T, c=known, cmap="viridis", **dots)
        axes.figure.colorbar(drawn, ax=axes, label=by)
        return
    for colour, name in zip(COLOURS, categories(known), strict=False):
        mine = np.array([value == name for value in values])
        axes.scatter(*points[mine].T, color=colour, label=str(name), **dots)
    axes.legend(loc="best")


def _column(rows: list[dict[str, str]], name: str) -> Float[np.ndarray, " n"]:
    return np.array([number(row[name]) for row in rows])
