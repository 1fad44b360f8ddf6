"""Bytes over the wire of a step on 1 to 8 devices, and the time of a step on pods.

python benchmarks/scaling.py                      a small ViT, simulated CPU devices
python benchmarks/scaling.py --size B             ViT-B/16 at 96 cubed, the same
python benchmarks/scaling.py --size B --form target     as XLA compiles it for H200s

First: the real pretraining step is compiled for meshes of 1 to 8 devices, and what
each device sends is read from the compiled program (see hlo.py for the rules), beside
what it should be on paper. XLA's CPU compiler leaves an all-reduce where a GPU's makes
a reduce-scatter of it; --form target (jax[cuda12] in the interpreter) reads that.
Second: a model of a step's time on pods of chips, from the makers' numbers in chips.py
and the same paper formulas. The model assumes --mfu of the chip's peak for the products
and all else on the chip, and gives both bounds: wire hidden behind work, and not.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from typing import Any

from chips import CHIPS, gradient_bytes, loss_bytes, wire_seconds
from common import Report, by_device, facts, standard_arguments, start, table, write
from hlo import Program, Traffic, traffic
from pretraining import overrides_of, plan_step, step_arguments
from targets import as_if_on, target_mesh

MESHES = (
    (1, 1),
    (2, 1),
    (1, 2),
    (4, 1),
    (2, 2),
    (1, 4),
    (8, 1),
    (4, 2),
    (2, 4),
    (1, 8),
)
MODEL = {"parameters": 90.2e6, "flops": 239e9, "width": 128}
"""ViT-B and its projector; FLOPs of a scan (two views); width of an embedding."""
LATENCY = 10e-6
"""Seconds that a message takes beside its bytes; a round guess for all networks."""


def compile_step(data: int, fsdp: int, options: argparse.Namespace) -> Report:
    """Gives what each device sends in a step on one mesh, by kind and by purpose."""
    import jax

    from brainjax.models import count_parameters
    from brainjax.parallel import make_mesh

    if options.form == "target":
        mesh, platform = target_mesh("h200", data, fsdp), "cuda"
    else:
        mesh, platform = make_mesh(data, fsdp), jax.default_backend()
    batch = options.batch * mesh.size
    step = plan_step(
        mesh,
        overrides_of(options),
        batch=batch,
        stored=options.stored,
        rows=options.rows,
    )
    with as_if_on(platform):
        compiled = step.trace().lower().compile()
    found = traffic(Program(compiled.as_text()), mesh.size)
    parameters = count_parameters(step.blueprint.abstract["params"])
    return {
        "mesh": [data, fsdp],
        "parameters": parameters,
        "sent": _sums(found, lambda each: each.kind),
        "purposes": _sums(found, purpose),
        "operations": sum(each.times for each in found),
        "paper": gradient_bytes(parameters, data, fsdp),
        "temp_GiB": compiled.memory_analysis().temp_size_in_bytes / 2**30,
        "largest": [
            f"{each.kind} {each.total / 1e6:.3g} MB, {each.times} x "
            f"{each.shapes[0].dtype}{list(each.shapes[0].sizes)} {each.source[-70:]}"
            for each in sorted(found, key=lambda each: -each.total)[:8]
        ],
    }


def purpose(each: Traffic) -> str:
    """Says what a collective is for: the loss, taking rows, or the parameters."""
    if "shard_map" in each.source:
        if each.kind == "all-to-all" or "cond/" in each.source:
            return "rows"
        if "all_gather" in each.source or "ppermute" in each.source:
            return "loss"
    return "parameters and rest"


def pod(chip: str, devices: int, options: argparse.Namespace) -> Report:
    """Gives the time of a step on a pod by the model, and scans/s."""
    scans, width = options.scans_a_chip, int(MODEL["width"])
    work = scans * MODEL["flops"] / (CHIPS[chip].flops * options.mfu)
    parameters = wire_seconds(
        gradient_bytes(MODEL["parameters"], devices, 1), devices, chip
    )
    parameters += 2 * math.ceil(math.log2(devices)) * LATENCY
    loss = {}
    for form, hops in (("gather", math.log2(devices)), ("ring", 2 * devices)):
        sent = loss_bytes(form, scans, devices, width)
        ring = form == "ring"
        loss[form] = wire_seconds(sent, devices, chip, ring=ring) + hops * LATENCY
    best = min(loss.values())
    apart, hidden = work + parameters + best, max(work, parameters) + best
    return {
        "chip": chip,
        "devices": devices,
        "pairs": devices * scans,
        "work_ms": 1e3 * work,
        "parameters_ms": 1e3 * parameters,
        **{f"loss_{form}_ms": 1e3 * took for form, took in loss.items()},
        "scans_per_s": [devices * scans / apart, devices * scans / hidden],
        "efficiency": [work / apart, work / hidden],
    }


def run_meshes(options: argparse.Namespace) -> list[Report]:
    """Compiles for every mesh, each in a process with as many simulated devices."""
    reports = []
    for data, fsdp in MESHES:
        if data * fsdp > options.devices:
            continue
        flag = f"--xla_force_host_platform_device_count={data * fsdp}"
        command = [sys.executable, __file__, "--mesh", str(data), str(fsdp)]
        done = subprocess.run(
            [*command, *sys.argv[1:]],
            env={**os.environ, "XLA_FLAGS": flag},
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"mesh {data}x{fsdp}: its message is above")
        reports.append(json.loads(done.stdout.splitlines()[-1]))
    return reports


def tell(meshes: list[Report], pods: list[Report]) -> None:
    """Prints both tables."""
    heads = ["mesh", "sent a device, MB", "parameters, on paper", "loss", "rows"]
    rows = [
        [
            "x".join(map(str, m["mesh"])),
            ", ".join(f"{k} {v / 1e6:.4g}" for k, v in m["sent"].items()) or "0",
            f"{m['purposes'].get('parameters and rest', 0) / 1e6:.4g}, "
            f"{m['paper'] / 1e6:.4g}",
            *(f"{m['purposes'].get(key, 0) / 1e6:.4g}" for key in ("loss", "rows")),
        ]
        for m in meshes
    ]
    print(table(heads, rows), "\n")
    heads = ["chips", "pairs", "work, ms", "gradients, ms", "loss gather, ring, ms"]
    rows = [
        [
            f"{p['devices']} {p['chip']}",
            p["pairs"],
            *(f"{p[key]:.2f}" for key in ("work_ms", "parameters_ms")),
            f"{p['loss_gather_ms']:.2f}, {p['loss_ring_ms']:.2f}",
            " to ".join(f"{rate:,.0f}" for rate in p["scans_per_s"]),
            " to ".join(f"{share:.0%}" for share in p["efficiency"]),
        ]
        for p in pods
    ]
    print(table([*heads, "scans/s", "efficiency"], rows))


def main() -> None:
    """Reads the wire, models the pods, prints, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard_arguments(parser)
    step_arguments(parser)
    add = parser.add_argument
    add("--devices", type=int, default=8, help="meshes of at most so many")
    add("--mesh", type=int, nargs=2, help="one mesh, in this process, as JSON")
    add("--form", choices=("compiled", "target"), default="compiled")
    add("--mfu", type=float, default=0.43, help="assumed, of the data sheet's peak")
    add("--scans-a-chip", type=int, default=64, help="of the model of pods")
    parser.set_defaults(size="small")
    options = start(parser)
    sizes = {"batch": 8, "stored": 32} if options.size == "small" else {}
    by_device(options, {"batch": 64, "stored": 128} | sizes, {})
    if options.mesh:
        data, fsdp = options.mesh
        print(json.dumps(compile_step(data, fsdp, options)))
        return
    meshes = run_meshes(options)
    pods = [pod(chip, n, options) for chip in CHIPS for n in (8, 64, 256)]
    tell(meshes, pods)
    write(facts() | {"meshes": meshes, "pods": pods}, options.out)


def _sums(found: list[Traffic], key: Any) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for each in found:
        total[key(each)] += each.total
    return dict(total)


if __name__ == "__main__":
    main()
