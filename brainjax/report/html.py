"""One page about runs: everything in a single HTML file that asks for nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records.writing import write_atomically
from brainjax.report import figures, tables
from brainjax.report.costs import cost_table
from brainjax.report.load import Embeddings, Predictions, Run, Views, load_run
from brainjax.report.verdict import baseline_sentence, compare_runs, sentence

MOST_LABELS = 6
FIRST_LABELS = ("age", "sex", "sequence")
KINDS = {
    "pretrain": "pretraining",
    "finetune": "fine-tuning",
    "segment": "segmentation",
}


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str = "brainjax report",
    cohort: Path | None = None,
) -> Path:
    """Writes a report about run folders as one self-contained HTML file.

    Args:
      runs: folders of pretraining and fine-tuning runs; a run still going will do.
      out: the file to write; it is replaced whole.
      title: of the page.
      cohort: folder of a generated cohort, whose truth.json is shown.

    Returns:
      `out`.

    Raises:
      InputRefusedError: no run given, a folder that is not a run, no such cohort, a
        file that cannot be written.
      MissingExtraError: matplotlib or jinja2 is not installed.
    """
    template = read_template("report.html.jinja")
    loaded = load_runs(runs)
    page = template.render(title=title, **_content(loaded, cohort))
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode())
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a file to write, got {error.strerror}"
        ) from None
    return out


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Reads run folders, each once; equal names get their parent's name before them.

    Raises:
      InputRefusedError: no folder given, or one that is not a run.
    """
    paths = list(dict.fromkeys(Path(path).resolve() for path in paths))
    if not paths:
        raise InputRefusedError("report: wanted at least one run folder, got none")
    runs = [load_run(path) for path in paths]
    names = [run.name for run in runs]
    return [
        run._replace(name=f"{run.path.parent.name}/{run.name}")
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


def read_template(name: str) -> Any:
    """Gives one of the templates beside this file.

    Raises:
      MissingExtraError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "report") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brainjax.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _content(runs: list[Run], cohort: Path | None) -> dict[str, Any]:
    """Everything the template shows, in the order of the page."""
    pretrained = [run for run in runs if run.kind == "pretrain"]
    tuned = [run for run in runs if run.kind == "finetune"]
    comparisons = compare_runs(runs)
    return {
        "version": __version__,
        "verdicts": [sentence(found) for found in comparisons],
        "baselines": [text for run in tuned if (text := baseline_sentence(run))],
        "runs": [(run.name, KINDS[run.kind], tables.describe_run(run)) for run in runs],
        "troubles": [text for run in runs for text in tables.troubles(run)],
        "losses": [_loss(run) for run in runs if run.metrics],
        "probes": [panel for run in pretrained for panel in _probes(run)],
        "views": [(run.name, _pairs(run.views)) for run in pretrained if run.views],
        "maps": [
            (run.name, len(run.embeddings.features), *_maps(run.embeddings))
            for run in pretrained
            if run.embeddings
        ],
        "answers": [
            (run.name, _answers(run, run.predictions))
            for run in tuned
            if run.predictions and run.predictions.targets.dtype.kind == "f"
        ],
        "confusions": [
            (run.name, run.target, tables.confusion(run.predictions))
            for run in tuned
            if run.predictions and run.predictions.targets.dtype.kind != "f"
        ],
        "scores": tables.score_tables(runs),
        "differences": tables.difference_table(comparisons) if comparisons else None,
        "notes": [n for found in comparisons for n in tables.comparison_notes(found)],
        "cohort": cohort,
        "truth": tables.truth_table(Path(cohort)) if cohort else None,
        "costs": cost_table(runs),
        "provenance": tables.provenance_table(runs),
        "configs": [
            (run.name, json.dumps(run.config, indent=1, sort_keys=True)) for run in runs
        ],
    }


def safe(svg: str) -> Any:
    """Marks a chart as HTML: matplotlib has escaped every text in it."""
    from markupsafe import Markup

    return Markup(svg)


def _loss(run: Run) -> Any:
    return safe(figures.draw(figures.plot_loss, run))


def _probes(run: Run) -> list[Any]:
    return [
        safe(figures.draw(figures.plot_probe, run, panel, names))
        for panel, names in figures.probe_panels(run).items()
    ]


def _answers(run: Run, answers: Predictions) -> Any:
    chart = figures.draw(
        figures.plot_answers, run.name, answers, run.unit, size=figures.SQUARE
    )
    return safe(chart)


def _pairs(views: Views) -> list[tuple[str, list[list[figures.Slice]]]]:
    """Per scan: subject, and the slices of its two views on one grey scale."""
    pairs = []
    for subject, *both in zip(views.subjects, views.first, views.second, strict=True):
        inside = np.abs(np.concatenate([view[view != 0] for view in both]))
        limit = float(np.nanquantile(inside, 0.99)) if inside.size else 1.0
        pairs.append((subject, [figures.slices(view, limit) for view in both]))
    return pairs


def _maps(found: Embeddings) -> tuple[list[Any], list[str]]:
    """One map per label that tells scans apart, and why others are not shown."""
    names = [name for name in FIRST_LABELS if name in found.labels]
    names += [name for name in found.labels if name not in names]
    maps, left_out = [], []
    for name in names:
        known = [value for value in found.labels[name] if value is not None]
        kinds = len(set(known))
        if kinds < 2:
            left_out.append(f"{name} ({kinds or 'no'} value)")
        elif kinds > len(figures.SERIES) and not figures.is_continuous(known):
            left_out.append(f"{name} ({kinds} values)")
        elif len(maps) == MOST_LABELS:
            left_out.append(f"{name} (room for {MOST_LABELS} labels)")
        else:
            chart = figures.draw(figures.plot_embedding, found, name)
            maps.append(safe(chart))
    return maps, left_out
