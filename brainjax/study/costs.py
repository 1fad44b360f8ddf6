"""What a study will cost, told before it starts."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from time import perf_counter
from typing import NamedTuple

from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.records.store import RecordDataset
from brainjax.study.grid import Cell
from brainjax.study.inits import Init, network_of
from brainjax.study.rows import Row

PROBE_SECONDS = 0.1
"""Of a linear probe or a head, where no row says: a guess."""
BACKWARD = 3.0
"""A training step against its forward pass."""
OVERHEAD_SECONDS = 4.0
"""Of a fine-tuning run beside its steps: a guess, where no row says."""
TIMED = 8
"""Scans encoded to see how long one takes."""


class Cost(NamedTuple):
    """A part of a study: what, how many, seconds of all, and where these come from."""

    what: str
    count: int
    seconds: float
    source: str


def seconds_per_scan(init: Init, dataset: RecordDataset) -> float:
    """Measures how long an encoder takes for a scan, without its compiling."""
    graphdef, params, stats = network_of(init, seed=0)
    encode = make_encode(graphdef, view=init.view)
    volumes = [dataset.read(i % len(dataset)) for i in range(TIMED)]
    took = math.inf
    for _ in range(2):  # the first compiles
        start = perf_counter()
        encode_scans(encode, params, stats, volumes)
        took = perf_counter() - start
    return took / TIMED


def recorded_seconds(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """The median seconds of a run by way and initialisation, of rows without error."""
    found = defaultdict(list)
    for row in rows:
        if not row["error"]:
            found[row["way"], row["init"]].append(row["seconds"])
    return {key: median(values) for key, values in found.items()}


def estimate(
    todo: Sequence[Cell],
    rows: Sequence[Row],
    unencoded: dict[str, int],
    per_scan: Callable[[str], float],
    samples: int,
) -> list[Cost]:
    """Gives the parts of a study that is to run, in the order in which they come.

    Args:
      todo: runs that have no row yet.
      rows: those that have one, which say how long such a run takes.
      unencoded: scans to encode, by initialisation.
      per_scan: seconds an initialisation takes for a scan, measured when it is asked.
      samples: scans that a fine-tuning run trains on in all: steps x batch.
    """
    parts = []
    for init, count in unencoded.items():
        parts.append(Cost(f"encode {init}", count, count * per_scan(init), "measured"))
    recorded = recorded_seconds(rows)
    groups: dict[tuple[str, str], int] = defaultdict(int)
    for cell in todo:
        groups[cell.way, cell.init] += 1
    for (way, init), count in groups.items():
        if (way, init) in recorded:
            seconds, source = recorded[way, init], "rows"
        elif way == "whole":
            seconds = samples * BACKWARD * per_scan(init) + OVERHEAD_SECONDS
            source = "measured"
        else:
            seconds, source = PROBE_SECONDS, "assumed"
        parts.append(Cost(f"{way} {init}", count, count * seconds, source))
    return parts


def show_costs(folder: object, total: int, todo: int, parts: Sequence[Cost]) -> None:
    """Prints the number of runs and the time that they will take."""
    seconds = sum(part.seconds for part in parts)
    print(
        f"{folder}: {total} runs, {total - todo} of them finished; "
        f"the other {todo} take about {duration(seconds)}"
    )
    for part in parts:
        print(
            f"  {part.what}: {part.count} x {part.seconds / max(part.count, 1):.2g} s "
            f"= {duration(part.seconds)} ({part.source})"
        )


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
