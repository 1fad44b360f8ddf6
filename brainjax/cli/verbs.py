"""What each verb of the command line does: thin, the work is in the rooms.

What a verb needs is imported when it runs, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from brainjax.cli.codes import GOOD, REFUSED
from brainjax.errors import InputRefusedError

Failures = Sequence[tuple[str, str]]
"""Path and reason of every scan that was refused."""

STEPS = ("bias", "registration", "mask", "session")
"""Words of `prepare` that go into its recipe."""

STATED = (
    *("origin", "recipe", "spacing", "pool", "settings", "shape", "patch", "inputs"),
    *("task", "target", "unit", "classes", "prefix", "ignore"),
)
"""Words of `convert` that go into its statement."""


def phantom(options: argparse.Namespace) -> int:
    """Generates a cohort with known answers."""
    from brainjax.phantom import cohort

    cohort(
        options.out,
        subjects=options.subjects,
        seed=options.seed,
        spacing=options.spacing,
        head=options.head,
        sequences=tuple(options.sequences),
        arms=tuple(options.arms),
        workers=options.workers,
    )
    return GOOD


def prepare(options: argparse.Namespace) -> int:
    """Brings raw scans into shards; refused if any scan was."""
    from brainjax.records.pairing import pair_label_maps
    from brainjax.records.plan import memory_need, show_plan
    from brainjax.records.runners import Way
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    fov = tuple(options.fov_mm) if options.fov_mm else None
    steps = {name: getattr(options, name) for name in STEPS}
    recipe = make_recipe(options.recipe, spacing=options.spacing, fov_mm=fov, **steps)
    memory = options.memory_gb
    if memory is not None and not 0 < memory < 1e6:
        raise InputRefusedError(f"memory-gb: wanted more than 0, got {memory:g}")
    way = Way(
        workers=options.workers,
        limit_s=options.limit_s,
        memory_bytes=memory_need(recipe) if memory is None else int(memory * 2**30),
        scheduler=options.scheduler,
        cluster=options.cluster,
    )
    sources = find_sources(options.sources)
    if options.dry_run:
        if options.label_maps:
            sources = pair_label_maps(sources, options.label_maps).sources
        show_plan(sources, recipe, way, options.out)
        return GOOD
    result = _prepare(
        options,
        sources,
        recipe,
        way,
    )
    print(
        f"{options.out}: {result.done} of {result.total} scans prepared "
        f"({result.reused} reused), {len(result.failures)} refused"
    )
    if result.label_maps or result.bad_maps:
        print(f"{options.out}: label maps of {result.label_maps} scans")
    _tell_quality(options, result.flagged)
    return max(_listed(result.failures), _listed(result.bad_maps, "label map"))


def _prepare(options: argparse.Namespace, sources, recipe, way):
    """Prepares; where all that was found stands out, the page still says why."""
    from brainjax.records.prepare import prepare as prepare_scans

    try:
        return prepare_scans(
            sources,
            options.out,
            recipe,
            labels=options.labels,
            label_maps=options.label_maps,
            orientation=options.orientation,
            way=way,
            header_labels=options.header_labels,
            exclude_flagged=options.exclude_flagged,
        )
    except InputRefusedError:
        if options.exclude_flagged:
            _tell_quality(options, None)
        raise


def _tell_quality(options: argparse.Namespace, flagged: int | None) -> None:
    """Writes the page of quality where there is something to show, and says so."""
    from importlib.util import find_spec

    table = options.out / "qc.tsv"
    if not table.is_file():
        return
    out = "left out" if options.exclude_flagged else "kept"
    words = f"{table}: {'all' if flagged is None else flagged} stand out ({out})"
    if find_spec("jinja2") is None or find_spec("matplotlib") is None:
        print(f"{words}; a page of pictures takes: pip install 'brainjax[report]'")
        return
    from brainjax.report.qc import write_page_of

    try:
        print(f"{words}; {write_page_of(options.out)}: open it in a browser")
    except InputRefusedError as error:  # the list of refused scans must still come
        print(f"{words}; no page: {error}", file=sys.stderr)


def strip(options: argparse.Namespace) -> int:
    """Writes brains and masks of scans; refused if any scan was."""
    from brainjax.records.strip import strip as strip_scans

    return _listed(
        strip_scans(
            options.scans,
            options.out,
            backend=options.mask,
            orientation=options.orientation,
            tell=print,
        )
    )


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
    return _listed(answers.failures + failures)


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
    return _listed([(row["name"], row["error"]) for row in outcome.failed], "run")


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
    return _listed(failures)


def _listed(failures: Sequence[tuple[str, str]], what: str = "scan") -> int:
    """Prints what a batch had to leave out; refused if anything was."""
    if failures:
        many = (
            f"1 {what} was" if len(failures) == 1 else f"{len(failures)} {what}s were"
        )
        print(f"{many} refused:", file=sys.stderr)
    for path, reason in failures:
        line = reason if reason.startswith(path) else f"{path}: {reason}"
        print(f"  {line}", file=sys.stderr)
    return REFUSED if failures else GOOD
