"""Reads the compiled pretraining step: products, bytes moved, and what is wasteful.

python benchmarks/program.py                           lowered for CUDA, not compiled
python benchmarks/program.py --form target             compiled for an absent H200
python benchmarks/program.py --form compiled           compiled for this machine

The step is that of configs/pretrain_vit_b.py on --stored cubed volumes; more words
override its config: config.encoder.remat=block. `target` needs jax[cuda12] (or 13) in
the interpreter, gives memory as well, and a roofline from the data sheet. A finding is
one line: what, how many bytes or FLOPs of a step, where in the model it comes from.
"""

import argparse
import importlib.util
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from chips import CHIPS
from common import Report, facts, standard_arguments, start, table, write
from hlo import Instruction, Program, Running, product
from pretraining import overrides_of, plan_step, step_arguments
from targets import as_if_on, target_mesh

from brainjax.parallel import make_mesh

COPYING = ("copy", "transpose", "concatenate", "pad", "reverse")
NEEDED = ("products", "fused attention", "float32 product")
LARGE = 0.01
"""A finding moves at least this share of all bytes."""
RATE = 790e12
"""bf16 FLOP/s measured on an H200 by a matrix product, as the issue states it."""


def build(options: argparse.Namespace) -> tuple[str, Any]:
    """Gives the program's text in the form asked for, and the compiled one or None."""
    mesh = target_mesh(options.chip) if options.form == "target" else make_mesh()
    platform = jax.default_backend() if options.form == "compiled" else "cuda"
    if options.form == "lowered" and not has_cudnn():
        print("without cuDNN its attention cannot be lowered: XLA's is shown instead")
        platform = "rocm"  # a GPU as well, and one that has none
    sizes = {"batch": options.batch, "stored": options.stored, "rows": options.rows}
    step = plan_step(mesh, overrides_of(options), **sizes)
    with as_if_on(platform):
        traced = step.trace()
        if options.form == "lowered":
            lowered = traced.lower(lowering_platforms=("cuda",))
            return lowered.as_text(dialect="hlo", debug_info=True), None
        compiled = traced.lower().compile()
    return compiled.as_text(), compiled


def has_cudnn() -> bool:
    """Says whether jax comes with NVIDIA's libraries here."""
    return any(
        map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))
    )


def kind_of(line: Instruction, program: Program) -> str:
    """Says in a word what an instruction that moves bytes is for."""
    inside = [each.opcode for each in program.inside(line)]
    opcodes = inside or [line.opcode]
    if product_of_library(line) or "dot" in opcodes:
        return "products"
    if "fmha" in line.target:
        return "fused attention"
    if "augment" in line.source or is_of_views(line):
        return "augmentation"
    if "dynamic-update-slice" in opcodes:
        return "storing for the backward pass, or a stack"
    if set(opcodes) <= {"broadcast", "constant", "parameter", "bitcast", "tuple"}:
        return "filling with a constant"
    if set(opcodes) & {"reduce"}:
        return "reductions"
    work = set(opcodes) - {"parameter", "constant", "bitcast", "tuple", "convert"}
    if "dynamic-slice" in work and len(work) == 1:
        return "taking out of a stack"
    if line.opcode in COPYING or work <= set(COPYING) or "transpose" in line.name:
        return "copies and transposes"
    return "converts" if not work or line.opcode == "convert" else "elementwise"


def is_of_views(line: Instruction) -> bool:
    """Says whether an instruction makes views: mapped over scans, not in a block."""
    return "vmap(" in line.source and "closed_call" not in line.source


def product_of_library(line: Instruction) -> bool:
    """Says whether a call is of cuBLAS."""
    return line.target.startswith("__cublas")


def read(program: Program, *, fused: bool) -> Report:
    """Gives FLOPs by numbers, bytes by kind, and the findings.

    fused: whether the program is compiled; else bytes of few kinds are known.
    """
    products, moved, places = Counter(), Counter(), Counter()
    for running in program.walk():
        found = product(running)
        if found:
            key = f"{found.left} x {found.right} -> {found.result}"
            products[key] += found.flops * running.times
            if found.left == "f32":
                places["float32 product", where(running)] += found.flops * running.times
        size = program.moved(running) * running.times
        kind = kind_of(running.instruction, program) if size else ""
        # Before fusion only these are as they will be; the rest will mostly melt away.
        if size and (
            fused or kind in ("products", "converts", "copies and transposes")
        ):
            moved[kind] += size
            places[kind, where(running)] += size
    return {
        "flops": dict(products.most_common()),
        "bytes": dict(moved.most_common()),
        "findings": findings(places, sum(products.values()), sum(moved.values())),
    }


def where(running: Running) -> str:
    """Gives type, shape and source of an instruction's first result, shortened."""
    line = running.instruction
    shape = line.shapes[0] if line.shapes else None
    sizes = ",".join(map(str, shape.sizes)) if shape else ""
    path = re.sub(
        r"jit\(update\)/|while/body/|closed_call/|checkpoint/", "", line.source
    )
    often = f" x {running.times}" if running.times > 1 else ""
    return f"{shape.dtype if shape else ''}[{sizes}]{often} {path[-80:]}"


def findings(places: Counter, flops: int, size: int) -> list[str]:
    """Gives one line for each thing that should not cost what it costs."""
    told = []
    for (kind, place), amount in places.most_common():
        if kind == "float32 product" and amount > 1e-5 * flops:
            told.append(f"{kind}: {amount / 1e9:.3g} GFLOP: {place}")
        elif kind not in NEEDED and amount > LARGE * size:
            told.append(f"{kind}: {amount / 1e9:.3g} GB: {place}")
    return told


def roofline(report: Report, chip: str) -> Report:
    """Gives seconds of a step by the data sheet: products, memory, and both."""
    flops, size = sum(report["flops"].values()), sum(report["bytes"].values())
    products = sum(report["bytes"].get(kind, 0) for kind in NEEDED)
    compute, memory = flops / RATE, size / CHIPS[chip].memory_speed
    # A product hides its own bytes; all else waits for memory.
    apart = (size - products) / CHIPS[chip].memory_speed
    batch = report["batch"]
    return {
        "products_s": compute,
        "memory_s": memory,
        "products_and_other_memory_s": compute + apart,
        "scans_per_s": batch / (compute + apart),
    }


def tell(report: Report) -> None:
    """Prints what was found."""
    flops, size = sum(report["flops"].values()), sum(report["bytes"].values())
    batch = report["batch"]
    print(
        f"\n{report['form']}, {batch} scans a step: {flops / 1e9 / batch:.1f} GFLOP "
        f"and {size / 1e9 / batch:.2f} GB moved a scan\n"
    )
    rows = [
        [key, f"{n / 1e9 / batch:.3f}", f"{n / flops:.1%}"]
        for key, n in report["flops"].items()
    ]
    print(table(["products", "GFLOP a scan", "share"], rows), "\n")
    rows = [
        [key, f"{n / 1e9 / batch:.3f}", f"{n / size:.1%}"]
        for key, n in report["bytes"].items()
    ]
    print(table(["bytes", "GB a scan", "share"], rows), "\n")
    for line in report["findings"][: report["shown"]]:
        print(f"- {line}")
    for name in ("memory", "roofline"):
        for key, value in report.get(name, {}).items():
            print(f"{name}: {key} {value:.4g}")


def main() -> None:
    """Builds the program, reads it, prints, writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    standard_arguments(parser)
    step_arguments(parser)
    add = parser.add_argument
    add("--form", choices=("lowered", "compiled", "target"), default="lowered")
    add("--chip", choices=("h100", "h200"), default="h200")
    add("--shown", type=int, default=25, help="findings to print")
    add("--text", type=Path, help="where the program's text goes")
    options = start(parser)
    options.batch, options.stored = options.batch or 64, options.stored or 128
    begun = time.perf_counter()
    text, compiled = build(options)
    report = facts() | {"form": options.form, "batch": options.batch}
    report |= {"shown": options.shown, "overrides": options.overrides}
    report["build_s"] = round(time.perf_counter() - begun, 1)
    if options.text:
        options.text.write_text(text)
    report |= read(Program(text), fused=options.form != "lowered")
    if compiled is not None:
        sizes = compiled.memory_analysis()
        names = ("argument", "temp", "output", "alias")
        report["memory"] = {
            f"{name}_GiB": getattr(sizes, f"{name}_size_in_bytes") / 2**30
            for name in names
        }
    if options.form == "target":
        report["roofline"] = roofline(report, options.chip)
    tell(report)
    write(report, options.out)


if __name__ == "__main__":
    main()
