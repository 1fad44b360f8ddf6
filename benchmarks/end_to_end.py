"""Scans a second of whole pretraining, from stored volumes to moved parameters.

python benchmarks/end_to_end.py                        a ViT-Ti at 48 cubed
python benchmarks/end_to_end.py --device gpu           ViT-B/16, 96 cubed out of 128
python benchmarks/end_to_end.py --device gpu --prepared runs/prepared --batch 384

The real step (train/step.py) on the real input (train/input.py), for every source of
scans; with gradient caching (--cached-batch by --micro-batch); and on views that are
cut out and not augmented, which gives augmentation's share of a step. Every case is
compiled first and takes turns with the others, --steps at a time. Speeds, MFU and the
share of waiting are the run's own ledger's; memory is what XLA states of the compiled
program. More words override the config: config.encoder.remat=block.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
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
from pretraining import CONFIG, Plan, plan
from scans import generated

from brainjax.parallel import make_mesh
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.flops import model_flops
from brainjax.train.input import Input, open_input
from brainjax.train.ledger import Ledger, peak_memory
from brainjax.train.loop import train
from brainjax.train.simclr import Contrasting

TINY = [
    "view=48,48,48",
    "encoder.width=192",
    "encoder.heads=3",
    "encoder.dtype=float32",
]
"""What makes a ViT-Ti at 48 cubed of it, for a CPU."""
GIB = 2**30


class Case:
    """One way to train, with a state of its own."""

    def __init__(
        self, planned: Plan, scans: Input, batch: int, micro: int, *, augmented: bool
    ):
        parts = Contrasting(planned.blueprint, planned.augmentation, **planned.loss)
        if not augmented:
            parts.draw = cut(planned.view)
        self.scans, self.batch, self.steps = scans, batch, 0
        self.speeds: list[dict[str, float]] = []
        views = 2 * planned.loss["crops"]
        flops = model_flops(planned.blueprint, planned.view, views=views)
        self.ledger = Ledger(batch=batch, views=views, flops=lambda: flops)
        self.update: Any = parts.compile(micro)
        self.state = planned.blueprint.initialise()
        begun, first = time.perf_counter(), next(scans)
        self.memory: dict[str, float] = {}
        if isinstance(first, dict):
            self.update = self.update.lower(self.state, first).compile()
            self.memory = memory_of(self.update)
        self.state, metrics = self.update(self.state, first)
        jax.block_until_ready(metrics)
        self.compiling = time.perf_counter() - begun
        self.loss = metrics["loss"]

    def run(self, steps: int) -> float:
        """Takes steps and gives scans a second."""
        self.steps = int(self.state["step"]) + steps
        with self.ledger.running():
            self.state = train(
                self.state,
                self.ledger.timed(self.update),
                self.ledger.watched(self.scans),
                steps=self.steps,
                hooks=[self._keep],
            )
            found = self.ledger.speeds(self.ledger.close_stretch())
        self.speeds.append(found)
        if not np.isfinite(self.loss):
            raise SystemExit(f"the loss is {self.loss}: such a time means nothing")
        return found["scans_per_second"]

    def _keep(self, _step: int, _state: dict, metrics: dict) -> None:
        self.loss = metrics["loss"]

    def median(self, name: str) -> float:
        """Gives the median of one of the ledger's speeds."""
        return float(np.median([found[name] for found in self.speeds]))


def cut(view: tuple[int, int, int]) -> Any:
    """Gives what stands in for augmentation: the middle of every volume, twice."""

    def draw(volumes, _positions, *, mesh, crops):
        starts = [
            (n - size) // 2 for n, size in zip(volumes.shape[1:], view, strict=True)
        ]
        middle = jax.lax.slice(
            volumes,
            (0, *starts),
            (len(volumes), *(a + n for a, n in zip(starts, view, strict=True))),
        )
        views = jnp.repeat(middle, 2 * crops, axis=0)[..., None]
        return (views.astype(jnp.float32) - 127) / 64

    return draw


def memory_of(compiled: Any) -> dict[str, float]:
    """Gives GiB of a compiled program: what it is given, and what it takes beside."""
    sizes = compiled.memory_analysis()
    return {
        "arguments_GiB": sizes.argument_size_in_bytes / GIB,
        "temporary_GiB": sizes.temp_size_in_bytes / GIB,
    }


def cases(
    planned: Plan, dataset: RecordDataset, options: argparse.Namespace, stack: ExitStack
) -> dict[str, Case]:
    """Builds what is measured, by name."""
    mesh, opened = planned.blueprint.mesh, {}

    def scans(source: str, batch: int, micro: int) -> Input:
        key = source, batch, micro
        if key not in opened:
            opened[key] = open_input(
                dataset,
                np.arange(len(dataset)),
                batch=batch,
                seed=0,
                start_step=0,
                mesh=mesh,
                source=source,
                micro_batches=batch // micro if micro else 1,
            )
            stack.callback(opened[key].close)
        return opened[key]

    def case(source: str, batch: int, micro: int = 0, augmented: bool = True) -> Case:
        given = scans(source, batch, micro)
        return Case(planned, given, batch, micro, augmented=augmented)

    size = options.batch
    found = {
        f"{source}, {size} pairs": case(source, size) for source in options.sources
    }
    found["not augmented"] = case(options.sources[0], size, augmented=False)
    if options.cached_batch:
        whole, micro = options.cached_batch, options.micro_batch
        for source in options.sources:
            if source != "resident":
                name = f"{source}, {whole} pairs by {micro}"
                found[name] = case(source, whole, micro)
    return found


def shares(found: dict[str, Case], rates: dict[str, list[float]]) -> Report:
    """Gives augmentation's share of a step, and each source against the first."""
    first, *_ = found
    bare = np.array(rates["not augmented"])
    share = 1 - np.array(rates[first]) / bare
    size = found[first].batch
    against = {
        name: summary(np.array(rates[name]) / np.array(rates[first]))
        for name, case in found.items()
        if name not in (first, "not augmented") and case.batch == size
    }
    return {"augmentation": summary(share), f"against {first}": against}


def tell(report: Report) -> None:
    """Prints the table."""
    print(f"{report['machine']}, load {report['load'][0]}, jax {report['jax']}")
    print(f"{report['basis']}\n")
    rows = [
        [
            name,
            span(row["scans_per_s"], digits=2),
            f"{row['mfu']:.1%}",
            f"{row['waiting']:.1%}",
            f"{row['compiling_s']:.0f}",
            f"{row['memory'].get('temporary_GiB', float('nan')):.2f}",
        ]
        for name, row in report["cases"].items()
    ]
    heads = ["case", "scans/s, two views each", "MFU", "waiting", "compiling, s"]
    print(table([*heads, "temporary GiB"], rows), "\n")
    print(f"augmentation's share of a step: {report['augmentation']['median']:.1%}")
    peak, whose = report["peak_memory"]
    print(f"peak memory of {whose}, all cases together: {peak / GIB:.2f} GiB")


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard_arguments(parser, repeats=3)
    add = parser.add_argument
    add("--prepared", help="what `brainjax prepare` wrote; generated if left out")
    add("--scans", type=int, help="to generate")
    add("--voxels", type=int, help="of a generated volume along an axis")
    add("--config", type=Path, help="of the pretraining")
    add("--batch", type=int, help="pairs in a step without gradient caching")
    add("--cached-batch", type=int, help="pairs in a step with it; 0 for none")
    add("--micro-batch", type=int, help="of the pairs with gradient caching")
    add("--steps", type=int, help="in each repeat")
    add("--sources", nargs="*", default=["device", "stream", "resident"])
    add("overrides", nargs="*", help="of the config: config.a.b=value")
    options = start(parser)
    cpu = {"scans": 64, "voxels": 48, "batch": 16, "steps": 3}
    gpu = {"scans": 2048, "voxels": 128, "batch": 256, "steps": 20}
    cpu |= {"cached_batch": 32, "micro_batch": 8}
    by_device(options, cpu, gpu | {"cached_batch": 4096, "micro_batch": 256})
    tiny = [f"config.{word}" for word in TINY]
    words = tiny if options.device == "cpu" and not options.config else []
    words = [f"--{word}" for word in [*words, *options.overrides]]
    planned = plan(make_mesh(), words, options.config or CONFIG)
    report: Report = facts() | {"overrides": words}
    with ExitStack() as stack:
        if options.prepared:
            dataset = open_dataset(options.prepared)
        else:
            dataset = stack.enter_context(generated(options.scans, options.voxels))
        found = cases(planned, dataset, options, stack)
        runs = {
            name: (lambda case=case: case.run(options.steps))
            for name, case in found.items()
        }
        rates = take_turns(runs, options.repeats)
    report |= shares(found, rates) | {"peak_memory": peak_memory()}
    report["basis"] = next(iter(found.values())).ledger.basis()
    report["cases"] = {
        name: {
            "scans_per_s": rates[name],
            "mfu": case.median("mfu"),
            "waiting": case.median("input_wait_share"),
            "compiling_s": case.compiling,
            "memory": case.memory,
        }
        for name, case in found.items()
    }
    tell(report)
    write(report, options.out)


if __name__ == "__main__":
    main()
