"""The SimCLR training step of ViT-B/16 at 96 cubed: time, memory and FLOP/s.

python benchmarks/step.py                                four scans, two cores
python benchmarks/step.py --device gpu                   512 scans, bfloat16
python benchmarks/step.py --sides float32:none bfloat16:products:xla
python benchmarks/step.py --device gpu --batch 4096 --micro-batch 512

Forward of both views in one call, projector, NT-Xent, backward, clipping, AdamW: the
step of `brainjax pretrain` with its config. With `--views given` it starts from views,
as its peers do (see `peers.py`); with `augmented` from stored volumes. A side is
DTYPE:REMAT:ATTENTION, the last two may be left out. Sides live in processes of their
own. On a CPU they take turns, so that a busy machine slows all; on an accelerator,
which would not hold them all, one follows the other. FLOPs are the model's, each
counted once: what is computed again to save memory is not. Processor seconds are those
of all cores, and change little where others use the machine too.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    Growth,
    Peer,
    Report,
    by_device,
    facts,
    ratio,
    serve,
    span,
    standard_arguments,
    start,
    summary,
    table,
    take_turns,
    write,
)

GIB, TERA = 2**30, 1e12


def draw_views(batch: int, size: int) -> np.ndarray:
    """Gives float32 [batch, 2, size, size, size]: two noisy views of every scan."""
    random = np.random.default_rng(0)
    shape = (batch, 1, size, size, size)
    scans = random.standard_normal(shape, dtype=np.float32)
    noise = random.standard_normal((batch, 2, *shape[2:]), dtype=np.float32)
    return scans + 0.5 * noise


def work(
    side: str, batch: int, views: str, micro_batch: int, device: str, size: str
) -> None:
    """Serves one side of ours: {"ask": "seconds"} or {"ask": "facts"}."""
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    import pretraining

    from brainjax.parallel import batch_sharding, make_mesh
    from brainjax.train.flops import model_flops
    from brainjax.train.peak import find_peak

    mesh = make_mesh()
    plan = pretraining.plan(mesh, [*_overrides(side, size), *_micro(micro_batch)])
    update = _update(plan, views)
    state = plan.blueprint.initialise()
    cube = plan.view[0]
    if views == "given":
        volumes = draw_views(batch, cube)
    else:
        shape = (batch, cube, cube, cube)
        volumes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    numbers = np.arange(batch, dtype=np.int32)
    inputs = {"volumes": volumes, "subjects": numbers, "positions": numbers}
    inputs = jax.device_put(inputs, batch_sharding(mesh))
    begun = time.perf_counter()
    run = update.lower(state, inputs).compile()
    compiling = time.perf_counter() - begun
    temporary = run.memory_analysis().temp_size_in_bytes
    losses: list[float] = []
    busy: list[float] = []
    # What a run holds all the time counts too.
    growth, held = Growth(), sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    def seconds() -> float:
        nonlocal state
        begun, worked = time.perf_counter(), time.process_time()
        state, metrics = run(state, inputs)
        losses.append(float(metrics["loss"]))
        jax.block_until_ready(state)
        busy.append(time.process_time() - worked)
        return time.perf_counter() - begun

    seconds()

    def answer(ask: str) -> dict[str, Any]:
        if ask == "seconds":
            return {"seconds": seconds()}
        stats = jax.devices()[0].memory_stats() or {}
        peak = find_peak(jax.devices()) if device == "gpu" else None
        return {
            "losses": losses,
            "processor_s": busy,
            "compile_s": round(compiling, 2),
            "temporary_bytes": temporary,
            "peak_bytes": stats.get("peak_bytes_in_use", held + growth.bytes()),
            "scan_flops": model_flops(plan.blueprint, plan.view, views=2),
            "peak_flops": peak.flops if peak else 0,
            "peak_name": peak.name if peak else "",
        }

    serve({"jax": jax.__version__}, answer)


def _update(plan: Any, views: str) -> Any:
    """Gives the step of training, or the same without its augmentation."""
    from brainjax.train.simclr import Contrasting

    class GivenViews(Contrasting):
        def views(self, batch: dict, mesh: Any) -> Any:
            """Gives the views that the batch brings, those of a scan side by side."""
            pairs = batch["volumes"]
            return pairs.reshape(-1, *pairs.shape[2:], 1)

    kind = GivenViews if views == "given" else Contrasting
    parts = kind(plan.blueprint, plan.augmentation, **plan.loss)
    return parts.compile(plan.micro_batch)


def _overrides(side: str, size: str) -> list[str]:
    import pretraining

    names = ("dtype", "remat", "attention")
    words = dict(zip(names, side.split(":"), strict=False))
    small = (
        [f"--config.{word}" for word in pretraining.SMALL] if size == "small" else []
    )
    return [*small, *(f"--config.encoder.{name}={v}" for name, v in words.items())]


def _micro(micro_batch: int) -> list[str]:
    return [f"--config.train.micro_batch={micro_batch}"] if micro_batch else []


def ours(options: argparse.Namespace) -> dict[str, Callable[[], Peer]]:
    """Gives what starts the process of each of our sides."""
    names = ("batch", "views", "micro_batch", "device", "size")
    shared = {name: getattr(options, name) for name in names}

    def begin(side: str) -> Peer:
        words = json.dumps({"side": side, **shared})
        return Peer(sys.executable, "step.py", "--serve", words)

    return {f"brainjax {s}": lambda s=s: begin(s) for s in options.sides}


def measure(
    sides: dict[str, Callable[[], Peer]], options: argparse.Namespace
) -> dict[str, Report]:
    """Gives every side's seconds and facts: in turns, or one after the other."""
    if options.device == "cpu":
        return _in_turns(sides, options.repeats)
    found = {}
    for name, begin in sides.items():
        found |= _in_turns({name: begin}, options.repeats)
    return found


def _in_turns(sides: dict[str, Callable[[], Peer]], repeats: int) -> dict[str, Report]:
    peers = {name: begin() for name, begin in sides.items()}
    turns = {
        name: lambda peer=peer: peer.ask(ask="seconds")["seconds"]
        for name, peer in peers.items()
    }
    seconds = take_turns(turns, repeats)
    found = {}
    for name, peer in peers.items():
        times = {"seconds": summary(seconds[name]), "all_seconds": seconds[name]}
        found[name] = peer.ask(ask="facts") | peer.versions | times
        peer.close()
    return found


def complete(sides: dict[str, Report], batch: int) -> None:
    """Adds scans/s, TFLOP/s, MFU and ratios; FLOPs are those of our first side."""
    first = next(iter(sides.values()))
    for side in sides.values():
        rate = batch / side["seconds"]["median"]
        side["scans_per_s"] = round(rate, 2)
        side["tflops"] = round(rate * first["scan_flops"] / TERA, 3)
        if first["peak_flops"]:
            side["mfu"] = round(side["tflops"] * TERA / first["peak_flops"], 4)
        side["this_over_first"] = ratio(side["all_seconds"], first["all_seconds"])


def markdown(report: Report) -> str:
    """Gives the report as a table."""
    heads = ["side", "s a step, median (least-most)", "scans/s", "TFLOP/s", "MFU"]
    heads += [
        "processor, s",
        "this / first, median (quartiles)",
        "peak, GiB",
        "compiling, s",
    ]
    rows = []
    for name, side in report["sides"].items():
        over = side["this_over_first"]
        quartiles = f"{over['lower_quartile']:.2f}-{over['upper_quartile']:.2f}"
        rows.append(
            [
                name,
                span(side["all_seconds"], digits=3),
                side["scans_per_s"],
                side["tflops"],
                f"{side['mfu']:.1%}" if "mfu" in side else "",
                span(side["processor_s"][1:]),
                f"{over['median']:.2f} ({quartiles})",
                f"{side['peak_bytes'] / GIB:.2f}",
                side["compile_s"] or "",
            ]
        )
    batch = f"batch {report['batch']}, {report['views']} views"
    load = ", ".join(map(str, report["load"]))
    lines = [f"{report['machine']}, load {load}; {batch}"]
    peak = next(iter(report["sides"].values()))["peak_name"]
    lines += [f"MFU: of {peak}"] if peak else []
    return "\n".join(lines) + "\n\n" + table(heads, rows)


def step_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what describes the step and our sides of it."""
    standard_arguments(parser, repeats=5)
    add = parser.add_argument
    add("--batch", type=int, help="scans in a step; 4 (gpu: 512)")
    add("--sides", nargs="+", help="of ours, DTYPE[:REMAT[:ATTENTION]]")
    add("--views", choices=("given", "augmented"), default="given")
    add("--micro-batch", type=int, default=0, help="scans embedded at a time; 0: all")
    add("--size", choices=("small", "B"), default="B", help="of the ViT")


def settle(options: argparse.Namespace) -> None:
    """Fills in what was not given."""
    both = ["bfloat16:products", "float32:products"]
    on_gpu = {"batch": 512, "sides": ["bfloat16:none", "bfloat16:products"]}
    by_device(options, {"batch": 4, "sides": both}, on_gpu)


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    step_arguments(parser)
    options = start(parser)
    settle(options)
    report_on(ours(options), options)


def report_on(
    sides: dict[str, Callable[[], Peer]], options: argparse.Namespace
) -> None:
    """Measures these sides and tells."""
    report = facts() | {"batch": options.batch, "views": options.views}
    report["sides"] = measure(sides, options)
    complete(report["sides"], options.batch)
    print(markdown(report))
    write(report, options.out)


if __name__ == "__main__":
    # Several processes share an accelerator: none may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if sys.argv[1:2] == ["--serve"]:
        work(**json.loads(sys.argv[2]))
    else:
        main()
