"""What runs cost, in the words of a table: speed, share of the peak, memory, hours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainjax.report.load import Run, number
from brainjax.report.tables import NOTHING, Table, duration


def cost_table(runs: Sequence[Run]) -> Table | None:
    """One column a run; None where no run tells what it cost.

    A run still going is told by the last line of its metrics.
    """
    told = [in_words(_known(run)) for run in runs]
    names = list(dict.fromkeys(name for costs in told for name in costs))
    rows = [[name, *(costs[name] or NOTHING for costs in told)] for name in names]
    rows = [row for row in rows if set(row[1:]) != {NOTHING}]
    return Table("", ["", *(run.name for run in runs)], rows) if rows else None


def _known(run: Run) -> Mapping[str, Any]:
    lines = (row for row in reversed(run.metrics) if "loss" in row)
    return run.summary or next(lines, {})


def in_words(costs: Mapping[str, Any]) -> dict[str, str]:
    """Gives each cost as text, empty where it is not known."""

    def say(text: str, *names: str) -> str:
        values = [number(costs.get(name)) for name in names]
        return text.format(*values) if np.isfinite(values).all() else ""

    def of(share: str, name: str) -> str:
        return f"{share} of {costs[name]}" if share and costs.get(name) else share

    seconds = number(costs.get("compile_seconds"))
    views = say(", {:.4g} views/s", "views_per_second")
    return {
        "speed": say("{:.4g} scans/s", "scans_per_second") + views,
        "model FLOPs of a scan": say("{:.4g} GFLOP", "scan_gflop"),
        "model FLOPs": say("{:.3g} TFLOP/s", "model_tflop_per_second"),
        "MFU": of(say("{:.1%}", "mfu"), "mfu_of"),
        "waiting for input": say("{:.1%} of the time", "input_wait_share"),
        "compiling": duration(seconds) if np.isfinite(seconds) else "",
        "peak memory": of(say("{:.3g} GiB", "peak_memory_gib"), "peak_memory_of"),
        "device": str(costs.get("device") or ""),
        "device hours": say("{:.3g}", "device_hours"),
    }
