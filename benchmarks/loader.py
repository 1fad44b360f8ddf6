"""Volumes a second out of prepared records, by every way into a step.

python benchmarks/loader.py
python benchmarks/loader.py --prepared runs/prepared --device gpu

"stream" is Grain's threads over the shards, batches made in the host's memory, for each
number of --threads; "resident" the same out of the host's memory; "device" the rows of
volumes that lie on the devices, taken inside a compiled step. "to the device" adds the
copy to the devices and the double buffering of training (train/input.py). Without
--prepared, records are generated that take as much room as real ones or more. The sides
take turns.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jax
import numpy as np
from common import (
    Report,
    by_device,
    facts,
    span,
    standard_arguments,
    start,
    summary,
    table,
    take_turns,
    write,
)
from scans import generated

from brainjax.data import batches, load_resident
from brainjax.data.on_device import take_rows
from brainjax.parallel import make_mesh
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.input import open_input


def paced(batches: Iterator, batch: int, options: argparse.Namespace) -> Callable:
    """Gives what says volumes a second over some batches; the first was waited for."""
    next(batches)

    def rate() -> float:
        # What was read ahead while the others had their turn is not counted.
        for _ in range(options.ahead):
            next(batches)
        begun = time.perf_counter()
        for _ in range(options.batches):
            next(batches)
        return options.batches * batch / (time.perf_counter() - begun)

    return rate


def taken(scans: Iterator, mesh: Any) -> Iterator:
    """Gives batches out of a data set on the devices, taken in a compiled function."""
    take = jax.jit(lambda dataset, rows: take_rows(dataset, rows, mesh))
    for arrays in scans:
        yield jax.block_until_ready(take(arrays["dataset"], arrays["rows"]))


def sides(
    dataset: RecordDataset, options: argparse.Namespace, stack: ExitStack
) -> dict[str, Callable[[], float]]:
    """Opens every way in; the stack closes them."""
    indices, batch, mesh = np.arange(len(dataset)), options.batch, make_mesh()
    words = {"batch": batch, "seed": 0}
    resident = load_resident(dataset, indices)
    opened: dict[str, Any] = {
        f"stream, threads {n}": batches(dataset, indices, threads=n, **words)
        for n in options.threads
    }
    opened["resident"] = batches(resident, indices, **words)
    for source in ("stream", "resident", "device"):
        name = source if source == "device" else f"{source}, to the device"
        opened[name] = open_input(
            dataset, indices, source=source, start_step=0, mesh=mesh, **words
        )
    found = {}
    for name, scans in opened.items():
        stack.callback(scans.close)
        ready = taken(scans, mesh) if name == "device" else scans
        found[name] = paced(ready, batch, options)
    return found


def bytes_of(dataset: RecordDataset) -> float:
    """Gives the bytes of a record on the disk, on average."""
    paths = dataset._shards.folder.glob("*.array_record")
    return sum(path.stat().st_size for path in paths) / len(dataset)


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard_arguments(parser)
    add = parser.add_argument
    add("--prepared", help="what `brainjax prepare` wrote; generated if left out")
    add("--scans", type=int, help="to generate")
    add("--voxels", type=int, help="of a generated volume along an axis")
    add("--batch", type=int)
    add("--batches", type=int, help="in each repeat")
    add("--ahead", type=int, default=4, help="batches that are not counted")
    add("--threads", type=int, nargs="*", help="of Grain, one row each")
    options = start(parser)
    cpu = {"scans": 192, "voxels": 96, "batch": 16, "batches": 24, "threads": [1, 2, 4]}
    gpu = {"scans": 2048, "voxels": 128, "batch": 256, "batches": 12}
    by_device(options, cpu, gpu | {"threads": [1, 4, 8, 16, 32]})
    report: Report = facts()
    with ExitStack() as stack:
        if options.prepared:
            dataset = open_dataset(options.prepared)
        else:
            dataset = stack.enter_context(generated(options.scans, options.voxels))
        report |= {"shape": dataset.shape, "record_bytes": bytes_of(dataset)}
        found = take_turns(sides(dataset, options, stack), options.repeats)
    report |= {"rates": found, "summaries": {k: summary(v) for k, v in found.items()}}
    voxels = float(np.prod(dataset.shape))
    print(
        f"{report['machine']}, load {report['load'][0]}; {len(dataset)} volumes of "
        f"{'x'.join(map(str, dataset.shape))} uint8, {report['record_bytes'] / 1e3:.0f}"
        f" kB each ({report['record_bytes'] / voxels:.0%})\n"
    )
    rows = [
        [name, span(rates, digits=0), f"{np.median(rates) * voxels / 1e9:.2f}"]
        for name, rates in found.items()
    ]
    print(table(["way in", "volumes/s", "GB/s"], rows))
    write(report, options.out)


if __name__ == "__main__":
    main()
