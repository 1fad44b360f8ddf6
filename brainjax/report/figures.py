"""Pictures of a report: charts as inline SVG, slices as PNG, both self-contained.

Charts take their ink from the page (`currentColor`, CSS variables), so that they are
legible on a light and on a dark ground.
"""

import base64
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.anatomy import AXES
from brainjax.errors import MissingExtraError
from brainjax.report.load import Embeddings, Predictions, Run, number, series
from brainjax.report.verdict import in_words

SIZE = (3.7, 2.8)
SQUARE = (3.4, 3.3)
"""Inches of a chart, and of one with equal axes; the page scales it to its column."""

INK = "#010203"
SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x18))
"""Stand-ins that the page's own colours replace in the finished SVG."""

PLANES = {  # shown plane: (axis looked along, letters at left, right, top, bottom)
    "axial": ("inferior_superior", "LRAP"),
    "coronal": ("posterior_anterior", "LRSI"),
    "sagittal": ("left_right", "PASI"),
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "brainjax",
    "text.parse_math": False,
    "font.size": 9,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
        ),
        INK,
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "legend.frameon": False,
}


class Slice(NamedTuple):
    """One mid-plane of a view: a PNG as data URI, and what lies at its edges."""

    plane: str
    image: str
    left: str
    right: str
    top: str
    bottom: str


def draw(plot: Any, *arguments: Any, size: tuple[float, float] = SIZE) -> str:
    """Draws one chart by `plot(axes, *arguments)`; gives SVG that fits into HTML.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure.add_subplot(), *arguments)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(text.getvalue())


def _for_page(svg: str) -> str:
    """Drops what only a file needs, and hands the colours over to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    # Names of parts would repeat on the page; only what is referred to keeps its own.
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]+)"', lambda m: m.group(0) if m.group(1) in used else "", svg
    )
    for number_, colour in enumerate(SERIES, start=1):
        svg = svg.replace(colour, f"var(--series-{number_})")
    svg = svg.replace(INK, "currentColor")
    return re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", svg, count=2)


def plot_loss(axes: Any, run: Run) -> None:
    """Training loss by step, with the level of chance where the config tells it."""
    steps, loss = series(run.metrics, "loss")
    axes.plot(steps, loss, color=SERIES[0], linewidth=1.4, label="training")
    steps, loss = series(run.metrics, "validation/loss")
    if len(steps):
        axes.plot(steps, loss, "o-", color=SERIES[1], markersize=3, label="validation")
    chance = chance_loss(run)
    if chance is not None:
        label = f"chance: log(2n − 1) = {chance:.2f}"
        axes.axhline(chance, color=INK, linestyle="--", linewidth=0.8, label=label)
    if len(axes.lines) > 1:
        axes.legend(loc="best")
    axes.set(xlabel="step", ylabel="loss", title=run.name)


def chance_loss(run: Run) -> float | None:
    """The loss of features that tell nothing apart: log(2n - 1) for n scans a batch."""
    batch = (run.config.get("train") or {}).get("batch")
    if run.kind != "pretrain" or not isinstance(batch, int) or batch < 2:
        return None
    return float(np.log(2 * batch - 1))


def probe_panels(run: Run) -> dict[tuple[str, str], list[str]]:
    """Logged probe names by (target, metric): lines that share a scale."""
    panels: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(key for row in run.metrics for key in row):
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "probe":
            panels.setdefault((parts[1], split_probe(parts[2])[1]), []).append(name)
    return panels


def split_probe(name: str) -> tuple[str, str]:
    """Method and metric of a probe: "ridge_mae" gives ("ridge", "mae")."""
    method, _, metric = name.partition("_")
    return (method, metric) if method in ("ridge", "logistic", "knn") else ("", name)


def plot_probe(axes: Any, run: Run, panel: tuple[str, str], names: list[str]) -> None:
    """One probe metric by step, a line for each method."""
    for colour, name in zip(SERIES, names, strict=False):
        steps, values = series(run.metrics, name)
        method = split_probe(name.split("/")[2])[0] or "probe"
        axes.plot(steps, values, "o-", color=colour, markersize=3, label=method)
    axes.legend(loc="best")
    axes.set(xlabel="step", title=f"{panel[0]}: {in_words(panel[1])}")


def principal_axes(
    features: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2"]]:
    """First two principal components, and the share of variance of each."""
    features = np.nan_to_num(features - np.mean(features, axis=0))
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    points = np.zeros((len(features), 2))
    points[:, : min(2, len(sizes))] = (left * sizes)[:, :2]
    shares = np.zeros(2)
    shares[: min(2, len(sizes))] = sizes[:2] ** 2 / max(np.sum(sizes**2), 1e-30)
    return points, shares


def plot_embedding(axes: Any, found: Embeddings, label: str) -> None:
    """Scans in the plane of the first two components, coloured by one label."""
    points, shares = principal_axes(found.features)
    values = found.labels[label]
    known = [v for v in values if v is not None]
    dots = {"s": 14, "linewidths": 0.15, "edgecolors": INK}
    unknown = np.array([v is None for v in values])
    if np.any(unknown):
        axes.scatter(*points[unknown].T, s=6, color=INK, alpha=0.3, label="unknown")
    if is_continuous(known):
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        colours = np.array([number(v) for v in values])[~unknown]
        # Without its darkest end, which a dark page would swallow.
        palette = ListedColormap(colormaps["viridis"](np.linspace(0.15, 0.97, 32)))
        drawn = axes.scatter(*points[~unknown].T, c=colours, cmap=palette, **dots)
        axes.figure.colorbar(drawn, ax=axes, label=label).outline.set_linewidth(0.4)
    else:
        for colour, name in zip(SERIES, categories(known), strict=False):
            mine = np.array([v == name for v in values])
            axes.scatter(*points[mine].T, color=colour, label=str(name), **dots)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.1)
    axes.set(
        xlabel=f"component 1 ({shares[0]:.0%} of variance)",
        ylabel=f"component 2 ({shares[1]:.0%})",
        title=f"by {label}",
    )


def categories(values: Sequence[Any]) -> list:
    """Different values, the most frequent first."""
    return sorted(dict.fromkeys(values), key=lambda v: (-values.count(v), str(v)))


def is_continuous(values: Sequence[Any]) -> bool:
    """Whether labels are a quantity: numbers, and more than a palette has colours."""
    numeric = all(isinstance(v, int | float) for v in values)
    return numeric and len(set(values)) > len(SERIES)


def plot_answers(axes: Any, title: str, answers: Predictions, unit: str) -> None:
    """Predicted against true, with the line on which they agree."""
    both = np.concatenate([answers.targets, answers.answers])
    pad = 0.04 * max(np.ptp(both), 1e-6)
    ends = (both.min() - pad, both.max() + pad)
    axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
    axes.scatter(
        answers.targets, answers.answers, s=14, color=SERIES[0], alpha=0.8, linewidths=0
    )
    unit = f" ({unit})" if unit else ""
    axes.set(xlabel=f"true{unit}", ylabel=f"predicted{unit}", title=title)
    axes.set(xlim=ends, ylim=ends, aspect="equal")


def slices(view: Float[np.ndarray, "x y z"], limit: float) -> list[Slice]:
    """The three orthogonal mid-planes of a RAS+ view, upright, left on the left.

    Grey runs over -limit..limit; the outside, exactly 0, is black.
    """
    found = []
    for plane, (axis, letters) in PLANES.items():
        middle = view.shape[AXES[axis]] // 2
        cut = np.take(view, middle, axis=AXES[axis])
        # Rows are the second remaining axis, which grows upwards; pictures grow down.
        found.append(Slice(plane, png(cut.T[::-1], limit), *letters))
    return found


def png(pixels: Float[np.ndarray, "rows columns"], limit: float) -> str:
    """A z-scored slice as a grey PNG in a data URI.

    Raises:
      MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.image import imsave
    except ImportError:
        raise MissingExtraError("matplotlib", "report") from None
    grey = np.clip(0.5 + 0.5 * np.nan_to_num(pixels) / max(limit, 1e-6), 0.05, 1)
    data = io.BytesIO()
    imsave(
        data, np.where(pixels == 0, 0, grey), cmap="gray", vmin=0, vmax=1, format="png"
    )
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
