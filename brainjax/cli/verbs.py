"""What each verb of the command line does: thin, the work is in the rooms.

What a verb needs is imported when it runs, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from brainjax.cli.codes import GOOD, REFUSED
from brainjax.cli.listing import Failures, listed
from brainjax.errors import InputRefusedError

STATED = (
    *("origin", "recipe", "spacing", "pool", "settings", "shape", "patch", "inputs"),
    *("task", "target", "unit", "classes", "prefix", "ignore"),
)
"""Words of `convert` that go into its statement."""


def pretrain(options: argparse.Namespace) -> int:
    """Learns an encoder from unlabelled scans."""
    from brainjax.configuration import load_config
    from brainjax.train.pretrain import pretrain as run

    folder = run(load_config(options.config, options.overrides), options.workdir)
    print(f"{folder.path}: pretrained; summary in {folder.summary}")
    return GOOD


def finetune(options: argparse.Namespace) -> int:
    """Learns a task from labelled scans."""
    from brainjax.configuration import load_config
    from brainjax.train.finetune import finetune as run

    folder = run(load_config(options.config, options.overrides), options.workdir)
    print(f"{folder.path}: fine-tuned; summary in {folder.summary}")
    return GOOD


def evaluate(options: argparse.Namespace) -> int:
    """Scores runs on their held-out subjects and prints the tables."""
    from brainjax.infer.evaluation import evaluate_run, show_evaluation

    for run in options.runs:
        show_evaluation(run, evaluate_run(run, prepared=options.prepared))
    return GOOD


def predict(options: argparse.Namespace) -> int:
    """Answers from raw scans; refused if any scan was."""
    from brainjax.infer.predict import predict as answer

    return _answer(answer, options, options.run, recipe=options.recipe)


def embed(options: argparse.Namespace) -> int:
    """Writes the features of raw scans; refused if any scan was."""
    from brainjax.infer.embed import embed as answer
    from brainjax.infer.scans import check_out, list_scans

    run, words = options.run, {"recipe": options.recipe, "pool": options.pool}
    if run.startswith("hf://") or Path(run).is_file():
        from brainjax.interop import make_statement, read_checkpoint, summarise

        check_out(options.out)
        list_scans(options.scans)  # refused before 350 MB are read
        stated = make_statement(recipe=options.recipe, pool=options.pool or "")
        conversion = read_checkpoint(run, stated._replace(origin=options.origin))
        print(summarise(conversion), file=sys.stderr)
        run, words = conversion.run, {}
    elif options.origin:
        raise InputRefusedError(f"--origin: wanted a checkpoint file, got run {run}")
    return _answer(answer, options, run, **words)


def segment(options: argparse.Namespace) -> int:
    """Outlines structures in raw scans; refused if any scan was."""
    from brainjax.report.segmentation_files import check_formats, write_answers

    formats = check_formats(options.format)
    memory = options.memory_gb
    if memory is not None and not 0 < memory < 1e6:
        raise InputRefusedError(f"memory-gb: wanted more than 0, got {memory:g}")
    from brainjax.infer.segment import Segment

    words = ("recipe", "orientation", "workers", "probabilities", "flips", "largest")
    answers = Segment(
        options.run,
        options.scans,
        least_ml=options.least_ml,
        memory_bytes=None if memory is None else int(memory * 2**30),
        **{word: getattr(options, word) for word in words},
    )
    failures = write_answers(
        answers,
        options.out,
        formats=formats,
        shape=options.shape,
        source=options.source,
    )
    return listed(answers.failures + failures)


def convert(options: argparse.Namespace) -> int:
    """Turns another package's checkpoint into a run."""
    from brainjax.interop import convert as bring_in
    from brainjax.interop import make_statement, show_conversion

    words = {name: getattr(options, name) for name in STATED}
    show_conversion(bring_in(options.file, options.out, make_statement(**words)))
    return GOOD


def export(options: argparse.Namespace) -> int:
    """Writes a run for use without brainjax."""
    from brainjax.interop import export as give_back

    for path in give_back(
        options.run,
        options.out,
        to=options.to,
        naming=options.naming,
        monai_version=options.monai_version,
    ):
        print(path)
    return GOOD


def report(options: argparse.Namespace) -> int:
    """Writes one HTML page about runs."""
    from brainjax.report import write_report

    path = write_report(options.runs, options.out, cohort=options.cohort)
    print(f"{path}: open it in a browser")
    return GOOD


def study(options: argparse.Namespace) -> int:
    """Does a grid of runs and writes its table and page; refused if any run failed."""
    from brainjax.configuration import load_config
    from brainjax.study import run_study

    config = load_config(options.config, options.overrides)
    outcome = run_study(config, options.workdir, dry_run=options.dry_run)
    if options.dry_run:
        return GOOD
    from brainjax.report.study import write_study_report

    page = write_study_report(outcome.study, outcome.rows)
    print(f"{outcome.rows.table}: the rows; {page}: open it in a browser")
    return listed([(row["name"], row["error"]) for row in outcome.failed], "run")


def audit(options: argparse.Namespace) -> int:
    """Looks for leaks of runs, one line each; refused if there is any."""
    from brainjax.study.audit import audit_run, show_audit

    leaks = sum(show_audit(run, audit_run(run)) for run in options.runs)
    return REFUSED if leaks else GOOD


def doctor(options: argparse.Namespace) -> int:
    """Shows what brainjax finds on this machine; refused if it cannot work."""
    from brainjax.report.doctor import show_machine

    return GOOD if show_machine() else REFUSED


def _answer(
    verb: Callable[..., Failures], options: argparse.Namespace, run, **words
) -> int:
    """Runs predict or embed, which share most of their words."""
    failures = verb(
        run,
        options.scans,
        out=options.out,
        orientation=options.orientation,
        workers=options.workers,
        **words,
    )
    return listed(failures)
