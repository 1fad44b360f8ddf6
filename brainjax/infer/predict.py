"""Raw scans to answers, with their unit and where they came from."""

from collections.abc import Sequence
from pathlib import Path

from brainjax.errors import InputRefusedError
from brainjax.infer.embed import Failures, describe_sources, run_on_scans
from brainjax.infer.scans import check_out, check_recipe
from brainjax.infer.table import write_table
from brainjax.train.restore import load_run


def predict(
    run: str | Path,
    scans: Sequence[str],
    *,
    out: Path | None = None,
    recipe: str | None = None,
    orientation: str | None = None,
    workers: int = 1,
) -> Failures:
    """Writes what a fine-tuned run answers for raw scans.

    One row a scan, in the order given: source, subject, session, sequence, recipe and
    checkpoint hash, target, unit, prediction, and for classes their probabilities.

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
    loaded = load_run(run)
    if loaded.task is None:
        raise InputRefusedError(
            f"{run}: wanted a fine-tuned run, got a pretraining one; use embed, or "
            "fine-tune it first"
        )
    check_recipe(loaded, recipe)
    sources, outputs, failures = run_on_scans(
        loaded, scans, method="__call__", orientation=orientation, workers=workers
    )
    columns = describe_sources(loaded, sources)
    columns["target"] = [loaded.task.target] * len(sources)
    columns["unit"] = [loaded.task.unit] * len(sources)
    if sources:
        columns |= loaded.task.columns(outputs)
    write_table(columns, out)
    return failures
