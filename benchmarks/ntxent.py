"""NT-Xent, forward and backward: time and memory against batch, in every form.

python benchmarks/ntxent.py --peer-python ../monai-venv/bin/python
python benchmarks/ntxent.py --device gpu --peer-python ...   up to 32,768 pairs
python benchmarks/ntxent.py --forms gather ring --devices 8   simulated devices on a CPU

Every side lives in a process of its own, made for one batch, and the sides of a batch
take turns, so that a busy machine slows all. They start from the same numbers, every
row a subject of its own, and must come to the same loss and slope; ours without the
metrics that training also asks for, unless --metrics. PyTorch's side is the usual
NT-Xent: one matrix and a cross-entropy. Beside the time that passed stands that of the
processor's cores, which a busy machine changes less. Three measures of memory: what the
compiled program needs (arguments, outputs, temporaries; per device), by how much the
process grew while it ran (inputs there before), and on an accelerator the peak that its
allocator saw. A side whose matrix would not fit is left out: see --plain-up-to.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import time
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

MIB = 2**20
TOLERANCE = 1e-3


def embeddings(pairs: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives float32 [pairs, dim] twice: views that resemble each other somewhat."""
    random = np.random.default_rng(0)
    first = random.normal(size=(pairs, dim)).astype(np.float32)
    return first, first + random.normal(size=(pairs, dim)).astype(np.float32)


class Clock:
    """Seconds since this was made: that passed, and that the cores were at work."""

    def __init__(self):
        self._begun = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Gives both."""
        passed, worked = self._begun
        return {
            "seconds": time.perf_counter() - passed,
            "core_seconds": time.process_time() - worked,
        }


def work(
    form: str,
    pairs: int,
    dim: int,
    temperature: float,
    devices: int,
    block: int | None,
    device: str,
    metrics: bool,
) -> None:
    """Serves one form of ours at one batch: {"ask": "seconds"} or {"ask": "facts"}."""
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", devices)
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from brainjax.losses import contrast

    axes = ("data", "fsdp")
    mesh = jax.make_mesh((devices, 1), axes, axis_types=(AxisType.Auto,) * 2)
    across = form in ("gather", "ring")
    rows = NamedSharding(mesh, PartitionSpec(axes if across else None))
    subjects = np.arange(pairs, dtype=np.int32)
    inputs = jax.device_put((*embeddings(pairs, dim), subjects), rows)

    def loss(first, second, subjects):
        found = contrast(
            first,
            second,
            subjects,
            temperature=temperature,
            form=form,
            mesh=mesh if across else None,
            block=block,
        )
        return found.loss, found.metrics if metrics else {}

    begun = time.perf_counter()
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    run = step.lower(*inputs).compile()
    compiling = time.perf_counter() - begun
    needs = run.memory_analysis()
    parts = (f"{kind}_size_in_bytes" for kind in ("argument", "output", "temp"))
    needed = sum(getattr(needs, part) for part in parts)
    growth = Growth()
    (value, _), slopes = jax.block_until_ready(run(*inputs))
    found = {"loss": float(value), "slope": float(np.linalg.norm(slopes[0]))}

    def answer(ask: str) -> dict[str, Any]:
        if ask == "seconds":
            clock = Clock()
            jax.block_until_ready(run(*inputs))
            return clock.read()
        stats = jax.devices()[0].memory_stats() or {}
        return {
            **found,
            "compile_s": round(compiling, 2),
            "program_bytes": needed,
            "growth_bytes": growth.bytes(),
            "device_peak_bytes": stats.get("peak_bytes_in_use", 0),
        }

    serve({"jax": jax.__version__}, answer)


def sides_of(options: argparse.Namespace, pairs: int) -> dict[str, Peer]:
    """Starts a process for every form, and PyTorch's, at one batch."""
    shared = {
        "pairs": pairs,
        "dim": options.dim,
        "temperature": options.temperature,
        "device": options.device,
    }
    sides = {}
    for form in options.forms:
        across = form in ("gather", "ring")
        if form == "plain" and pairs > options.plain_up_to:
            continue
        devices = options.devices if across else 1
        words = {**shared, "form": form, "block": options.block, "devices": devices}
        words["metrics"] = options.metrics
        sides[form] = Peer(sys.executable, "ntxent.py", "--serve", json.dumps(words))
    if options.peer_python and pairs <= options.plain_up_to:
        for form in options.peer_forms:
            words = json.dumps({**shared, "form": form})
            peer = Peer(options.peer_python, "ntxent_peer.py", words)
            sides[f"PyTorch {form}"] = peer
    return sides


def measure(options: argparse.Namespace, pairs: int) -> Report:
    """Gives time and memory of every side at one batch."""
    sides = sides_of(options, pairs)
    cores: dict[str, list[float]] = {name: [] for name in sides}

    def turn(name: str) -> float:
        answer = sides[name].ask(ask="seconds")
        cores[name].append(answer["core_seconds"])
        return answer["seconds"]

    turns = {name: functools.partial(turn, name) for name in sides}
    seconds = take_turns(turns, options.repeats)
    report: Report = {"pairs": pairs, "sides": {}}
    for name, side in sides.items():
        found = {**side.ask(ask="facts"), **side.versions}
        found |= {"seconds": summary(seconds[name]), "all_seconds": seconds[name]}
        found["core_seconds"] = summary(cores[name])
        if "plain" in sides:
            found["plain_over_this"] = ratio(seconds["plain"], seconds[name])
        report["sides"][name] = found
        side.close()
    _must_agree(report)
    return report


def _must_agree(report: Report) -> None:
    """Raises SystemExit where two sides did not do the same work."""
    for what in ("loss", "slope"):
        values = {name: side[what] for name, side in report["sides"].items()}
        middle = statistics.median(values.values())
        if any(abs(v - middle) > TOLERANCE * abs(middle) for v in values.values()):
            raise SystemExit(f"{report['pairs']} pairs: {what} differs: {values}")


def markdown(report: Report) -> str:
    """Gives the report as a table."""
    rows = []
    for batch in report["batches"]:
        for name, side in batch["sides"].items():
            faster = side.get("plain_over_this", {}).get("median", "")
            memory = side["program_bytes"], side["growth_bytes"]
            peak = side["device_peak_bytes"] or None
            rows.append(
                [
                    f"{batch['pairs']:,}",
                    name,
                    span(side["all_seconds"], digits=3),
                    side["core_seconds"]["median"],
                    faster,
                    *(f"{b / MIB:,.0f}" if b else "" for b in (*memory, peak)),
                    side["compile_s"] or "",
                ]
            )
    heads = ["pairs", "form", "forward + backward, s", "of cores, s", "plain / this"]
    heads += ["program, MiB", "process grew, MiB", "device peak, MiB", "compiling, s"]
    return f"{report['machine']}, load {report['load'][0]}\n\n" + table(heads, rows)


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard_arguments(parser, repeats=5)
    add = parser.add_argument
    add("--pairs", type=int, nargs="+", help="batches; 512 to 8,192 (gpu: 32,768)")
    add("--forms", nargs="+", default=["plain", "blocks"], help="also gather, ring")
    add("--devices", type=int, default=1, help="of gather and ring; simulated on a CPU")
    add("--dim", type=int, default=128)
    add("--temperature", type=float, default=0.1)
    add("--block", type=int, help="rows and columns of a block; else as in training")
    add("--metrics", action="store_true", help="with the metrics of training")
    add("--plain-up-to", type=int, help="largest batch of the forms with one matrix")
    add("--peer-forms", nargs="+", default=["eager"], help="eager, compile")
    options = start(parser)
    batches = [512, 1024, 2048, 4096, 8192]
    by_device(
        options,
        {"pairs": batches, "plain_up_to": 8192},
        {"pairs": [*batches, 16384, 32768], "plain_up_to": 16384},
    )
    report = facts() | {"dim": options.dim, "temperature": options.temperature}
    report["batches"] = [measure(options, pairs) for pairs in options.pairs]
    print(markdown(report))
    write(report, options.out)


if __name__ == "__main__":
    # Several processes share an accelerator: none may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if sys.argv[1:2] == ["--serve"]:
        work(**json.loads(sys.argv[2]))
    else:
        main()
