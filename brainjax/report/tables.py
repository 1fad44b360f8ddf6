"""The tables and plain sentences of a report, from runs; every cell is text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.report.figures import split_probe
from brainjax.report.load import Predictions, Run, number
from brainjax.report.verdict import Comparison, as_metric, in_words, show

NOTHING = "–"
MOST_ROWS = 40


class Table(NamedTuple):
    """A table for the page: a title, the head, and rows as long as the head."""

    title: str
    head: list[str]
    rows: list[list[str]]


def describe_run(run: Run) -> str:
    """What was trained, on how much, how long and on what; as far as it is known."""
    summary = run.summary
    encoder = (run.config.get("encoder") or {}).get("name")
    words = [f"{encoder} encoder" if encoder else "encoder"]
    if run.kind != "pretrain":
        what = run.target or "fine-tuned"
        if run.kind == "segment":
            what = f"outlines {', '.join(structures(run)) or 'structures'}"
        frozen = summary.get("encoder_mode", run.config.get("mode")) == "frozen"
        start = "from scratch" if run.init == "scratch" else f"from {run.init}"
        words = [f"{what}, {start}{', frozen' if frozen else ''}"]
    if "parameters" in summary:
        words.append(f"{number(summary['parameters']) / 1e6:.2f} million parameters")
    if "train_scans" in summary:
        words.append(f"{summary['train_scans']} training scans")
    if "steps" in summary:
        words.append(f"{summary['steps']} steps")
    elif run.metrics:
        words.append(f"not ended, at step {run.metrics[-1]['step']:.0f}")
    if "seconds" in summary:
        words.append(duration(number(summary["seconds"])))
    if "device" in summary:
        words.append(str(summary["device"]))
    return ", ".join(words) + "."


def duration(seconds: float) -> str:
    """Seconds in words: "2 min 51 s", "3 h 5 min"."""
    if not np.isfinite(seconds):
        return "unknown time"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.0f} s"


def troubles(run: Run) -> list[str]:
    """What a reader should know of a run: parts missing, steps and records left out."""
    found = [f"{run.name}: no {part}" for part in run.missing]
    if run.summary.get("skipped_steps"):
        found.append(
            f"{run.name}: {run.summary['skipped_steps']} steps were skipped because "
            "their loss or gradient was not finite"
        )
    bad = run.summary.get("bad_records") or {}
    found += [f"{run.name}: {name} left out: {reason}" for name, reason in bad.items()]
    return found


def score_tables(runs: Sequence[Run]) -> list[Table]:
    """Per target: every run's metrics with intervals, and the baselines."""
    scored = [run for run in runs if run.kind == "finetune" and run.evaluation]
    tables = [
        _scores(target, [run for run in scored if run.target == target])
        for target in dict.fromkeys(run.target for run in scored)
    ]
    probed = [run for run in runs if run.kind == "pretrain" and run.evaluation]
    outlined = [run for run in runs if run.kind == "segment" and run.evaluation]
    tables += [_outline_scores(run) for run in outlined]
    return tables + [_probe_scores(run) for run in probed]


def _scores(target: str, runs: list[Run]) -> Table:
    metrics = {run.name: run.evaluation.get("metrics") or {} for run in runs}
    names = list(dict.fromkeys(name for found in metrics.values() for name in found))
    rows = []
    for run in runs:
        counts = [run.evaluation.get(key) for key in ("n_scans", "n_subjects")]
        cells = [interval(metrics[run.name].get(name)) for name in names]
        rows.append([run.name, *cells, *map(_text, counts)])
    for run in runs:
        baseline = run.evaluation.get("baseline") or {}
        found = baseline.get("metrics") or {}
        cells = [interval(found.get(name)) for name in names]
        row = [f"always the {baseline.get('name', '?')}", *cells, NOTHING, NOTHING]
        if found and row not in rows:
            rows.append(row)
    unit = f" ({runs[0].unit})" if runs[0].unit else ""
    split = " and ".join(sorted({str(run.evaluation.get("split", "")) for run in runs}))
    title = f"{target}{unit}, {split} split" if split else f"{target}{unit}"
    head = ["run", *(in_words(name) for name in names), "scans", "subjects"]
    return Table(title, head, rows)


def _probe_scores(run: Run) -> Table:
    """What simple models read from a pretraining run's frozen features."""
    rows = []
    for name, metric in (run.evaluation.get("metrics") or {}).items():
        target, _, rest = str(name).rpartition("/")
        method, metric_name = split_probe(rest)
        rows.append([target, method, in_words(metric_name), interval(metric)])
    split, n = (run.evaluation.get(key, "") for key in ("split", "n_subjects"))
    title = f"Probes of the frozen features of {run.name}, {split} split, {n} subjects"
    return Table(title, ["target", "model", "metric", "score"], rows)


def structures(run: Run) -> list[str]:
    """Names of what a segmentation run outlines, as far as its folder says."""
    given = (run.config.get("task") or {}).get("classes") or {}
    return [str(name) if isinstance(name, str) else str(name[0]) for name in given]


def _outline_scores(run: Run) -> Table:
    """How well a segmentation run outlines each structure; their mean comes first."""
    found: dict[str, dict[str, Any]] = {}
    for key, metric in (run.evaluation.get("metrics") or {}).items():
        structure, _, name = str(key).rpartition("/")
        found.setdefault(structure, {})[name] = metric
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    rows = [
        [structure, *(interval(row.get(name)) for name in names)]
        for structure, row in found.items()
    ]
    split, n = (run.evaluation.get(key, "") for key in ("split", "n_subjects"))
    title = f"Outlines of {run.name}, {split} split, {n} subjects"
    return Table(title, ["structure", *map(in_words, names)], rows)


def interval(metric: Any) -> str:
    """A metric as text: "4.12 [3.30, 5.01]"; a dash where there is none."""
    if metric is None:
        return NOTHING
    value, low, high, _ = as_metric(metric)
    if not np.isfinite([low, high]).all():
        return show(value)
    return f"{show(value)} [{show(low)}, {show(high)}]"


def difference_table(comparisons: Sequence[Comparison]) -> Table:
    """Paired differences, run minus reference; below 0 the run is better."""
    rows = []
    for found in comparisons:
        pair = [found.run.name, found.reference.name, found.error]
        if found.difference is None:
            rows.append([*pair, f"none: {found.reason}", NOTHING])
        else:
            text = f"{interval(found.difference._asdict())} {found.unit}".strip()
            rows.append([*pair, text, str(found.difference.n)])
    head = ["run", "minus", "of", "paired difference", "subjects"]
    return Table("Paired differences on the same test scans", head, rows)


def comparison_notes(found: Comparison) -> list[str]:
    """What weakens a comparison: other settings that differ, subjects seen before."""
    pair = f"{found.run.name} and {found.reference.name}"
    notes = []
    if found.others:
        notes.append(
            f"{pair} also differ in {', '.join(found.others)}: the difference is not "
            "that of pretraining alone."
        )
    if found.seen:
        notes.append(
            f"{found.seen} test subjects of {found.run.name} were among the scans it "
            "was pretrained on (without labels): a transductive comparison."
        )
    return notes


class Confusion(NamedTuple):
    """Counts of a classification: rows are the true classes, columns the answers."""

    classes: list[str]
    rows: list[tuple[str, list[tuple[int, float]]]]


def confusion(answers: Predictions) -> Confusion:
    """Counts every pair of true and answered class, and its share of the true class."""
    classes = sorted({*map(str, answers.targets), *map(str, answers.answers)})
    rows = []
    for true in classes:
        mine = answers.targets == true
        counts = [int(np.sum(mine & (answers.answers == name))) for name in classes]
        total = max(sum(counts), 1)
        rows.append((true, [(count, count / total) for count in counts]))
    return Confusion(classes, rows)


def truth_table(cohort: Path) -> Table | None:
    """What can be known about a generated cohort: one row a target and metric.

    None where there is no truth.json. Whatever numbers the file gives become columns,
    such as chance, oracle and histogram.

    Raises:
      InputRefusedError: the folder is not there, or the file is not a JSON object.
    """
    if not cohort.is_dir():
        raise InputRefusedError(f"{cohort}: wanted a cohort folder, got none")
    file = cohort / "truth.json"
    if not file.exists():
        return None
    try:
        truth = json.loads(file.read_text())
        found = _leaves(truth.get("targets", truth), "", {})[:MOST_ROWS]
    except (ValueError, AttributeError) as error:
        raise InputRefusedError(f"{file}: wanted a JSON object, got {error}") from None
    columns = list(dict.fromkeys(name for _, row in found for name in row))
    rows = [[name, *(_text(row.get(c)) for c in columns)] for name, row in found]
    return Table("", ["target", *(c.replace("_", " ") for c in columns)], rows)


def _leaves(value: dict, path: str, above: dict) -> list[tuple[str, dict[str, Any]]]:
    """Every innermost object by its path, with the plain values on the way to it."""
    plain = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
    inner = {k: v for k, v in value.items() if isinstance(v, dict)}
    if not inner:
        return [(path, above | plain)]
    above = above | plain if path else {}
    return [
        row
        for name, item in inner.items()
        for row in _leaves(item, f"{path}, {in_words(name)}" if path else name, above)
    ]


def provenance_table(runs: Sequence[Run]) -> Table:
    """Where every run comes from: seeds, hashes, commands, versions."""
    facts = [_provenance(run) for run in runs]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    rows = [[name, *(_text(fact.get(name)) for fact in facts)] for name in names]
    rows = [row for row in rows if set(row[1:]) != {NOTHING}]
    return Table("", ["", *(run.name for run in runs)], rows)


def _provenance(run: Run) -> dict[str, Any]:
    summary, config, evaluation = run.summary, run.config, run.evaluation
    return {
        "kind": run.kind,
        "started from": None if run.kind == "pretrain" else run.init,
        "seed": config.get("seed"),
        "split seed": (config.get("split") or {}).get("seed"),
        "data": (config.get("data") or {}).get("path"),
        "recipe": summary.get("recipe", evaluation.get("recipe")),
        "checkpoint": summary.get("checkpoint", evaluation.get("checkpoint")),
        "best step": summary.get("best_step"),
        "evaluated with": evaluation.get("command"),
        **{f"{k} version": v for k, v in (summary.get("versions") or {}).items()},
    }


def _text(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    return show(value) if isinstance(value, float) else str(value)
