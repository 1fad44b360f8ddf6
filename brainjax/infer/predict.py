"""Raw scans to answers, with their unit and where they came from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from brainjax import models
from brainjax.errors import InputRefusedError
from brainjax.infer.embed import Failures, describe_sources, run_on_scans
from brainjax.infer.scans import check_out, check_recipe
from brainjax.infer.table import write_table
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
    checkpoint hash, target, unit, prediction, and for classes their probabilities. A
    run of several inputs (a converted one, such as BrainIAC's IDH model of two
    sequences) takes that many scans of each subject and session, averages their
    features, and gives one row for them; `source` then names them all.

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
      InputRefusedError: the run, the recipe, the list of scans or the output.
    """
    check_out(out)
    loaded = run if isinstance(run, Run) else load_run(run)
    task = _need_task(loaded)
    check_recipe(loaded, recipe)
    several = loaded.network.get("inputs", 1) > 1
    sources, outputs, failures = run_on_scans(
        loaded,
        scans,
        method="encode" if several else "__call__",
        orientation=orientation,
        workers=workers,
    )
    if several:
        sources, outputs, lacking = answer_together(loaded, sources, outputs)
        failures += lacking
    columns = describe_sources(loaded, sources)
    columns["target"] = [task.target] * len(sources)
    columns["unit"] = [task.unit] * len(sources)
    if sources:
        columns |= task.columns(outputs)
    write_table(columns, out)
    return failures


def answer_together(
    run: Run, sources: Sequence[Source], features: Float[np.ndarray, "n d"]
) -> tuple[list[Source], Float[np.ndarray, "m k"], Failures]:
    """Answers from the mean features of each subject and session.

    Returns:
      One source a subject and session, whose path and sequence name all its scans
      (joined by "+"); the head's outputs for each; and (path, reason) of the scans
      that are too few or too many for the run's inputs.
    """
    inputs = run.network["inputs"]
    together: dict[tuple, list[int]] = {}
    for number, source in enumerate(sources):
        who = (source.subject or source.path, source.session)
        together.setdefault(who, []).append(number)
    joint, means, failures = [], [], []
    for (subject, session), numbers in together.items():
        scans = [sources[number] for number in numbers]
        paths = "+".join(scan.path for scan in scans)
        if len(scans) != inputs:
            reason = f"wanted {inputs} scans of {subject}, got {len(scans)}"
            failures.append((paths, reason))
            continue
        sequences = "+".join(scan.sequence or "" for scan in scans)
        joint.append(Source(paths, subject, session, sequences))
        means.append(features[numbers].mean(axis=0))
    if not joint:
        return [], np.zeros((0, 0), np.float32), failures
    outputs, _ = models.run(
        run.graphdef,
        run.params,
        run.batch_stats,
        np.stack(means),
        train=False,
        method="answer",
    )
    return joint, np.asarray(outputs), failures


def _need_task(run: Run) -> Task:
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
