"""Raw scans to answers, with their unit, their doubts and where they came from."""

import sys
from collections.abc import Sequence
from pathlib import Path

from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import Answers
from brainjax.evaluate.guards import FILE, Guards
from brainjax.infer.embed import (
    Failures,
    answer_sources,
    describe_sources,
    encode_sources,
)
from brainjax.infer.meaning import read_out
from brainjax.infer.scans import check_out, check_recipe, list_scans
from brainjax.infer.table import write_table
from brainjax.infer.together import answer_together, choose_scans
from brainjax.records.sources import Source
from brainjax.tasks import Task
from brainjax.train.restore import Run, load_run

_KINDS = {
    "pretrain": "a pretraining one",
    "encoder": "an encoder without a head",
    "segmentation": "a segmentation network",
}


def predict(
    run: str | Path | Run,
    scans: Sequence[str],
    *,
    out: Path | None = None,
    recipe: str | None = None,
    orientation: str | None = None,
    workers: int = 1,
) -> Failures:
    """Writes what a fine-tuned run answers for raw scans.

    One row a scan, in the order given: source, subject, session, sequence, recipe and
    checkpoint hash, target, unit, prediction, for classes their probabilities, and what
    the run's guards add (see `Guards.columns`): an interval or a set of classes,
    calibrated probabilities, and whether the scan looks like those of training. One
    line on standard error says what the answers mean.

    A run of several sequences gives one row a subject and session, from those of its
    scans that are there; a converted run of several inputs (such as BrainIAC's IDH
    model) takes exactly that many scans. `source` then names them all.

    Args:
      run: a fine-tuning run.
      scans: NIfTI files, folders or tables.
      out: .csv or .parquet; standard output if None.
      recipe: name or hash that the run's must agree with; its own if None.
      orientation: of scans whose header states none, such as "RAS".
      workers: scans prepared at a time.

    Returns:
      (path, reason) of every scan that was refused; the others are in the table.

    Raises:
      InputRefusedError: the run, its guards, the recipe, the list of scans or the
        output.
    """
    check_out(out)
    loaded = run if isinstance(run, Run) else load_run(run)
    task = _need_task(loaded)
    check_recipe(loaded, recipe)
    guards = load_guards(loaded)
    sources, answers, failures = _answer(
        loaded, list_scans(scans), orientation=orientation, workers=workers
    )
    columns = describe_sources(loaded, sources)
    columns["target"] = [task.target] * len(sources)
    columns["unit"] = [task.unit] * len(sources)
    if sources:
        columns |= task.columns(answers.outputs)
        if guards is not None:
            columns |= guards.columns(task, answers.outputs, answers.features)
    write_table(columns, out)
    if sources:
        print(read_out(task, guards), file=sys.stderr)
    return failures


def load_guards(run: Run) -> Guards | None:
    """Gives what fine-tuning saved to guard a run's answers; None where it did not.

    Raises:
      InputRefusedError: the file is damaged, or of another checkpoint.
    """
    path = run.folder / FILE
    return Guards.load(path, checkpoint=run.checkpoint) if path.is_file() else None


def _answer(
    run: Run, scans: list[Source], *, orientation: str | None, workers: int
) -> tuple[list[Source], Answers, Failures]:
    """Gives rows, their answers, and the scans that there is no answer for."""
    chosen, unfit = choose_scans(scans, run.network.get("sequences") or ())
    words = {"orientation": orientation, "workers": workers}
    if run.network.get("inputs", 1) == 1:
        sources, answers, failures = answer_sources(run, chosen, **words)
        return sources, answers, unfit + failures
    sources, features, failures = encode_sources(run, chosen, **words)
    joint, answers, lacking = answer_together(run, sources, features)
    return joint, answers, unfit + failures + lacking


def _need_task(run: Run) -> Task:
    if run.kind == "segment":
        raise InputRefusedError(
            f"{run.folder}: wanted a fine-tuned run, got a segmentation run; use "
            "`brainjax segment`"
        )
    if run.task is not None:
        return run.task
    if run.kind == "finetune":
        raise InputRefusedError(
            f"{run.folder}: wanted a task, but the converted file does not say what "
            "its outputs mean; convert it with --task, --target and --unit or --classes"
        )
    raise InputRefusedError(
        f"{run.folder}: wanted a fine-tuned run, got {_KINDS[run.kind]}; use embed, or "
        "fine-tune it first"
    )
