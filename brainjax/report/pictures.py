"""Pictures for a notebook: planes of volumes, answers beside the truth, features.

Each is a PNG that a notebook shows where it is the last value of a cell, or by
`display`. They stand on a light ground of their own.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from brainjax.anatomy import AXES
from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.infer.scans import list_scans
from brainjax.records.labels import read_labels
from brainjax.records.sources import Source
from brainjax.report.figures import PLANES, principal_axes
from brainjax.report.load import number, read_metrics
from brainjax.report.plots import PLOTS, plot_points, plot_training
from brainjax.train.folder import RunFolder, read_json
from brainjax.train.restore import Run, load_run
from brainjax.volume.recipe import prepare_volume

MOST = 4
"""Scans that one picture shows the planes of."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture as the bytes of a PNG."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> None:
        """Writes the PNG."""
        Path(path).write_bytes(self.png)


def picture_volumes(
    volumes: Sequence[Shaped[np.ndarray, "x y z"]], titles: Sequence[str] = ()
) -> Picture:
    """Three mid-planes of each RAS+ volume, a row each; 0 is outside, and black.

    Raises:
      InputRefusedError: no volume.
      MissingExtraError: matplotlib is not installed.
    """
    if not len(volumes):
        raise InputRefusedError("picture: wanted a volume at least, got none")
    titles = [*titles, *[""] * len(volumes)]

    def plot(figure: Any) -> None:
        rows = figure.subfigures(len(volumes), squeeze=False)[:, 0]
        for row, volume, title in zip(rows, volumes, titles, strict=False):
            # A title of the row: a long one must not widen the first plane's column.
            row.suptitle(title, x=0.01, ha="left", fontsize=9)
            for axes, plane in zip(row.subplots(1, len(PLANES)), PLANES, strict=True):
                _plot_plane(axes, volume, plane)

    return _draw(plot, (6.6, 2.4 * len(volumes)))


def picture_training(run: str | Path) -> Picture:
    """Loss of training and validation by step, as far as a run has come.

    Raises:
      InputRefusedError: nothing is logged yet.
    """
    file = RunFolder(run).metrics
    if not file.is_file():
        raise InputRefusedError(f"{file}: wanted the log of a run, got nothing there")
    metrics = read_metrics(file)
    return _draw(lambda figure: plot_training(figure.add_subplot(), metrics), (5, 2.6))


def picture_answers(run: str | Path) -> Picture:
    """Answers of an evaluated run beside the truth, as its predictions.csv has them.

    A regression: predicted against true, with intervals where there are some. Classes:
    how many of each were answered how. Survival: risk against time; a hollow dot is
    who was last seen without the event.

    Raises:
      InputRefusedError: the run was not evaluated.
    """
    folder = RunFolder(run)
    about, rows = read_json(folder.evaluation), read_rows(folder.predictions)
    plot = PLOTS[about["task"]]
    return _draw(lambda figure: plot(figure.add_subplot(), about, rows), (4.2, 3.9))


def picture_predictions(
    run: str | Path, table: str | Path, *, most: int = MOST
) -> Picture:
    """The first scans of a table of answers, as the run saw them, with its answers.

    Args:
      run: that answered.
      table: the .csv that `predict` wrote.
      most: scans at most.

    Raises:
      InputRefusedError: not a run, no such table, a scan that is no longer there.
    """
    loaded, rows = load_run(run), read_rows(table)[:most]
    # Of several scans of a subject, the first stands for all.
    paths = [row["source"].split("+")[0] for row in rows]
    volumes = [_read_volume(loaded, path) for path in paths]
    return picture_volumes(volumes, [describe_answer(row) for row in rows])


def picture_features(
    table: str | Path, labels: str | Path, by: str, *, mark: str = ""
) -> Picture:
    """Scans in the plane of their features' first two components, coloured by a label.

    Args:
      table: the .csv that `embed` wrote.
      labels: table of participants; by: its column.
      mark: source of a scan that gets a star.

    Raises:
      InputRefusedError: no such table or column.
    """
    rows, known = read_rows(table), read_labels(labels)
    if by not in known.columns:
        raise InputRefusedError(
            f"{labels}: wanted a column {by}, got {', '.join(known.columns)}"
        )
    names = [name for name in rows[0] if name.startswith("feature_")]
    points, shares = principal_axes(
        np.array([[float(row[name]) for name in names] for row in rows])
    )
    values = [
        known.of(row["subject"] or None, row["session"] or None).get(by) for row in rows
    ]
    marked = np.array([bool(mark) and row["source"] == str(mark) for row in rows])

    def plot(figure: Any) -> None:
        axes = figure.add_subplot()
        plot_points(axes, points, values, by)
        if marked.any():
            style = {"marker": "*", "s": 170, "color": "#c02020", "edgecolors": "white"}
            axes.scatter(*points[marked].T, label="this scan", zorder=3, **style)
            axes.legend(loc="best")
        first, second = shares
        axes.set(
            xlabel=f"component 1 ({first:.0%} of variance)",
            ylabel=f"component 2 ({second:.0%})",
            title=f"{len(rows)} scans by {by}",
        )

    return _draw(plot, (4.6, 3.4))


def describe_answer(row: dict[str, str]) -> str:
    """Words for a row of `predict`: subject, answer, interval, familiar or not."""
    answer, unit = row["prediction"], row.get("unit", "")
    if np.isfinite(number(answer)) and not row.get("prediction_set"):
        answer = f"{float(answer):.1f}"
    if row.get("low"):
        answer += f" ({float(row['low']):.1f} to {float(row['high']):.1f})"
    answer = f"{answer} {unit}".strip()
    who = row["subject"] or Path(row["source"]).name
    parts = [f"{who}: {row['target']} {answer}"]
    if row.get("prediction_set"):
        parts.append(f"one of {row['prediction_set'].replace('|', ', ')}")
    if row.get("in_distribution") == "no":
        parts.append("UNLIKE THE TRAINING SCANS")
    return "; ".join(parts)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Reads a .csv of answers or features, a dict a scan.

    Raises:
      InputRefusedError: no such file, or no row in it.
    """
    try:
        with Path(path).open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a table of answers, got {error.strerror}"
        ) from None
    if not rows:
        raise InputRefusedError(f"{path}: wanted a table with a scan, got none")
    return rows


def _read_volume(run: Run, path: str) -> Shaped[np.ndarray, "x y z"]:
    source: Source = list_scans([path])[0]
    return prepare_volume(source.path, run.recipe, mask_path=source.mask).codes


def _draw(plot: Callable[[Any], None], size: tuple[float, float]) -> Picture:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110)
    return Picture(data.getvalue())


def _plot_plane(axes: Any, volume: Shaped[np.ndarray, "x y z"], plane: str) -> None:
    """One mid-plane, upright, left on the left, with letters at its edges."""
    axis, (left, right, top, bottom) = PLANES[plane]
    middle = volume.shape[AXES[axis]] // 2
    cut = np.take(volume, middle, axis=AXES[axis]).astype(np.float64)
    inside = volume[volume != 0]
    low, high = np.percentile(inside, [0.5, 99.5]) if inside.size else (0, 1)
    # What is inside stays lighter than the outside, however dark it is.
    shown = np.where(cut == 0, 0, 0.05 + 0.95 * (cut - low) / max(high - low, 1e-9))
    axes.imshow(shown.T, origin="lower", cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    words = {"color": "#e8c84a", "fontsize": 8, "transform": axes.transAxes}
    for letter, x, y, across, up in (
        *((left, 0.02, 0.5, "left", "center"), (right, 0.98, 0.5, "right", "center")),
        *((top, 0.5, 0.98, "center", "top"), (bottom, 0.5, 0.02, "center", "bottom")),
    ):
        axes.text(x, y, letter, ha=across, va=up, **words)
