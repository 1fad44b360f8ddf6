"""An evaluation on the terminal: a table, and what it means."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show_evaluation(run: str | Path, result: dict[str, Any]) -> None:
    """Prints what `evaluate_run` gave, or evaluation.json holds, as a table.

    Under it stand the numbers that are not scores of the answers as they are, and a
    sentence on what the answers mean.
    """
    of = (
        f"{result['target']} ({result['unit']})" if result["unit"] else result["target"]
    )
    table = Table(
        title=f"{run}: {of}, {result['n_scans']} {result['split']} scans of "
        f"{result['n_subjects']} subjects"
    )
    for heading in ("metric", "value", "95 % interval", "baseline"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    baseline = result.get("baseline", {}).get("metrics", {})
    for name, metric in result["metrics"].items():
        other = baseline.get(name)
        table.add_row(
            name,
            _in_digits(metric["value"]),
            f"{_in_digits(metric['low'])} to {_in_digits(metric['high'])}",
            "" if other is None else _in_digits(other["value"]),
        )
    console = Console()
    console.print(table)
    for line in _lines(result):
        console.print(line, markup=False, highlight=False)


def _lines(result: dict[str, Any]) -> Iterator[str]:
    """What stands under the table."""
    coverage, bias = result.get("coverage"), result.get("bias_correction")
    if coverage:
        holds = f"hold the truth of {_measured(coverage['measured'])} of scans"
        size = (
            f"intervals {_in_digits(coverage['width'])} {result['unit']} wide"
            if "width" in coverage
            else f"sets of {_in_digits(coverage['classes'])} classes on average"
        )
        yield f"coverage: {size} {holds} ({coverage['wanted']:g} wanted)"
    if "after" in (calibration := result.get("calibration", {})):
        before, after = (calibration[k]["ece"] for k in ("before", "after"))
        yield (
            f"calibration: ece {_measured(before)} before, {_measured(after)} after "
            f"temperature {_in_digits(calibration['temperature'])}"
        )
    if bias:
        yield (
            f"mae_bias_corrected: {_measured(bias['mae_bias_corrected'])} "
            f"{result['unit']}. {bias['note']}"
        )
    yield from _survival(result.get("survival", {}), result["unit"])
    if familiar := result.get("in_distribution"):
        yield f"in_distribution: {_measured(familiar['share'])} of scans"
    if result.get("meaning"):
        yield result["meaning"]


def _survival(tables: dict[str, Any], unit: str) -> Iterator[str]:
    if not tables:
        return
    for name, time in tables["auc_times"].items():
        yield f"{name}: the AUC at {_in_digits(time)} {unit}"
    p = tables["log_rank"]["p"]
    small = p is not None and p < 0.001
    said = "p < 0.001" if small else f"p = {_in_digits(p)}"
    yield f"log-rank test of the risk quartiles: {said}"
    if adjusted := tables.get("hazard_ratio_adjusted"):
        yield (
            f"hazard_ratio adjusted for {', '.join(adjusted['covariates'])}: "
            f"{_measured(adjusted)}, of {adjusted['n']} subjects"
        )


def _measured(metric: dict[str, Any]) -> str:
    low, high = _in_digits(metric["low"]), _in_digits(metric["high"])
    return f"{_in_digits(metric['value'])} ({low} to {high})"


def _in_digits(value: float | None) -> str:
    # What is not finite in memory is null in evaluation.json.
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"
