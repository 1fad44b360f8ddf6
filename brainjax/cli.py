"""`brainjax <verb>`: every verb is thin; the work is in the rooms.

Exit codes: 0 all good, 2 an input was refused, 1 brainjax itself failed. What a verb
needs is imported when it runs, so that `--help` answers at once.
"""

import argparse
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from brainjax import __version__
from brainjax.errors import InputRefusedError

GOOD, OURS, REFUSED = 0, 1, 2

Failures = Sequence[tuple[str, str]]
"""Path and reason of every scan that was refused."""

_REPEATED = re.compile(r"([A-Z][^:]{3,80}: )\1+")
"""How XLA tells of a failure: once for every call it passed on its way up."""


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
        workers=options.workers,
    )
    return GOOD


def prepare(options: argparse.Namespace) -> int:
    """Brings raw scans into shards; refused if any scan was."""
    from brainjax.records.prepare import prepare as prepare_scans
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    recipe = make_recipe(
        options.recipe, spacing=options.spacing, fov_mm=tuple(options.fov_mm)
    )
    result = prepare_scans(
        find_sources(options.sources),
        options.out,
        recipe,
        labels=options.labels,
        workers=options.workers,
        orientation=options.orientation,
    )
    print(
        f"{options.out}: {result.done} of {result.total} scans prepared "
        f"({result.reused} reused), {len(result.failures)} refused"
    )
    return _listed(result.failures)


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

    return _answer(answer, options)


def embed(options: argparse.Namespace) -> int:
    """Writes the features of raw scans; refused if any scan was."""
    from brainjax.infer.embed import embed as answer

    return _answer(answer, options)


def report(options: argparse.Namespace) -> int:
    """Writes one HTML page about runs."""
    from brainjax.report import write_report

    path = write_report(options.runs, options.out, cohort=options.cohort)
    print(f"{path}: open it in a browser")
    return GOOD


def doctor(options: argparse.Namespace) -> int:
    """Shows what brainjax finds on this machine; refused if it cannot work."""
    from brainjax.report.doctor import show_machine

    return GOOD if show_machine() else REFUSED


def _answer(verb: Callable[..., Failures], options: argparse.Namespace) -> int:
    """Runs predict or embed, which take the same words."""
    failures = verb(
        options.run,
        options.scans,
        out=options.out,
        recipe=options.recipe,
        orientation=options.orientation,
        workers=options.workers,
    )
    return _listed(failures)


def _listed(failures: Sequence[tuple[str, str]]) -> int:
    """Prints what a batch had to leave out; refused if anything was."""
    if failures:
        scans = "1 scan was" if len(failures) == 1 else f"{len(failures)} scans were"
        print(f"{scans} refused:", file=sys.stderr)
    for path, reason in failures:
        line = reason if reason.startswith(path) else f"{path}: {reason}"
        print(f"  {line}", file=sys.stderr)
    return REFUSED if failures else GOOD


def make_parser() -> argparse.ArgumentParser:
    """Describes every verb."""
    parser = argparse.ArgumentParser(
        prog="brainjax",
        description="Foundation models of brain MRI. Research use only.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error came from"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    _add_data_verbs(verbs)
    _add_training_verbs(verbs)
    _add_answer_verbs(verbs)
    return parser


def _add_data_verbs(verbs) -> None:
    verb = _add(verbs, phantom, "generate a cohort with known answers")
    verb.add_argument("--subjects", type=int, default=200)
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--spacing", type=float, default=2.0, help="mm")
    verb.add_argument("--head", action="store_true", help="whole heads, not stripped")
    verb.add_argument("--sequences", nargs="+", default=["T1w"])
    _workers(verb)

    verb = _add(verbs, prepare, "raw scans to canonical volumes in shards")
    verb.add_argument(
        "sources", nargs="+", metavar="SRC", help="files, folders, tables"
    )
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--labels", type=Path, help="participants.tsv or .csv")
    verb.add_argument("--recipe", default="canonical")
    verb.add_argument("--spacing", type=float, default=1.0, help="mm")
    verb.add_argument("--fov-mm", type=float, nargs=3, default=[192.0] * 3)
    _orientation(verb)
    _workers(verb)


def _add_training_verbs(verbs) -> None:
    for action, text in (
        (pretrain, "learn an encoder from unlabelled scans"),
        (finetune, "learn a task from labelled scans"),
    ):
        verb = _add(verbs, action, text + "; any key: --config.train.steps=100")
        verb.add_argument("--config", type=Path, required=True)
        verb.add_argument("--workdir", type=Path, required=True)


def _add_answer_verbs(verbs) -> None:
    verb = _add(verbs, evaluate, "score runs on their held-out subjects")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    verb.add_argument("--prepared", type=Path, help="another prepared data set, whole")

    for action, text, needs_out in (
        (predict, "answer from raw scans", False),
        (embed, "features of raw scans", True),
    ):
        verb = _add(verbs, action, text)
        verb.add_argument("run", type=Path, metavar="RUN")
        verb.add_argument("scans", nargs="+", metavar="SCAN")
        verb.add_argument("--out", type=Path, required=needs_out, help=".csv, .parquet")
        verb.add_argument("--recipe", help="refused unless it is the run's own")
        _orientation(verb)
        _workers(verb)

    verb = _add(verbs, report, "one self-contained HTML page about runs")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    verb.add_argument("--out", type=Path, default=Path("report.html"))
    verb.add_argument("--cohort", type=Path, help="phantom folder, for its truth.json")

    _add(verbs, doctor, "versions, devices, what is optional and missing")


def _add(verbs, action, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(action.__name__, help=text, description=text)
    verb.set_defaults(action=action)
    verb.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,  # what was said before the verb holds
        help=argparse.SUPPRESS,
    )
    return verb


def _workers(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 8),
        help="scans at a time",
    )


def _orientation(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--orientation", help="of scans whose header does not say, such as RAS"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and gives its exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if word.startswith("--config.")]
    strangers = [word for word in rest if word not in overrides]
    if strangers or (overrides and options.verb not in ("pretrain", "finetune")):
        parser.error(f"unrecognized arguments: {' '.join(strangers or overrides)}")
    options.overrides = overrides
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("brainjax").setLevel(logging.INFO)
    try:
        return options.action(options)
    except InputRefusedError as error:
        return _say(error, options, REFUSED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # the last line of defence: one line, exit code 1
        return _say(error, options, OURS)


def _say(error: Exception, options: argparse.Namespace, code: int) -> int:
    if options.traceback:
        traceback.print_exc()
    kind = "" if code == REFUSED else f"{type(error).__name__}: "
    line = _REPEATED.sub(r"\1", " ".join(str(error).split()))
    hint = "" if options.traceback or code == REFUSED else " (--traceback says where)"
    print(f"brainjax {options.verb}: {kind}{line}{hint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
