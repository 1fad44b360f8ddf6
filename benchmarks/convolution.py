"""3D convolutions and ResNets on a CPU, beside PyTorch's, in one run.

Run:  python benchmarks/convolution.py --peer-python ../monai-venv/bin/python
First single layers: XLA's own 3D convolution (plain) beside ours (planes), forward, and
forward with the slopes of input and kernel. Then whole networks: ours, ours with the
plain form, and MONAI's of the same arithmetic in both of PyTorch's memory formats, two
threads. The sides take turns, so that a busy machine slows all. Without --peer-python
only our sides run; --no-plain leaves the slow form out.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from common import (
    Peer,
    facts,
    ratios,
    span,
    standard_arguments,
    start,
    take_turns,
    timed,
    write,
)
from flax import nnx

from brainjax.models import convolution, make_encoder, run, to_pure

FORMS = {"planes": convolution.convolve, "plain": convolution.convolve_plainly}
MODES = ("forward", "forward + backward")
# Batch, side, channels before and after, kernel, stride.
LAYERS = [
    (1, 96, 1, 64, 7, 2),
    (1, 96, 8, 8, 3, 1),
    (1, 64, 32, 32, 3, 1),
    (2, 32, 64, 64, 3, 1),
    (2, 16, 128, 128, 3, 1),
    (2, 8, 256, 256, 3, 1),
    (2, 4, 512, 512, 3, 1),
    (2, 32, 128, 128, 3, 2),
    (2, 32, 64, 256, 1, 1),
    (2, 32, 256, 512, 1, 2),
]


def compiled(function: Callable, *arguments) -> tuple[Callable[[], float], float]:
    """Gives what runs it once and says the seconds, and the seconds of compiling."""
    begun = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    took = time.perf_counter() - begun
    return timed(program, *arguments), took


def layer(form: str, mode: str, row: tuple[int, ...]) -> tuple[Callable, float]:
    """Compiles one convolution; XLA's own slope of a stem's input takes minutes."""
    batch, side, before, after, kernel, stride = row
    keys = jax.random.split(jax.random.key(0))
    cells = jax.random.normal(keys[0], (batch, *[side] * 3, before))
    weights = jax.random.normal(keys[1], (*[kernel] * 3, before, after))
    convolve = partial(FORMS[form], stride=stride)
    if mode == "forward":
        return compiled(convolve, cells, weights)

    def loss(weights, cells):
        return jnp.square(convolve(cells, weights)).sum()

    wanted = (0,) if before == 1 else (0, 1)
    return compiled(jax.value_and_grad(loss, wanted), weights, cells)


def peer_pass(peer: Peer, depth: int, memory: str, mode: str) -> float:
    """Gives the seconds of one pass of PyTorch's."""
    answer = peer.ask(depth=depth, memory=memory, backward=mode != "forward")
    return answer["seconds"]


def network(form: str, mode: str, options: argparse.Namespace, depth: int):
    """Compiles a ResNet whose convolutions have this form."""
    convolution.convolve = FORMS[form]
    module = make_encoder(
        "resnet", shape=options.size, depth=depth, stem_stride=2, rngs=nnx.Rngs(0)
    )
    pure = to_pure(module)
    shape = (options.batch, *[options.size] * 3, 1)
    volumes = jax.random.normal(jax.random.key(0), shape)

    def forward(params, stats, volumes, *, train=False):
        return run(pure.graphdef, params, stats, volumes, train=train)[0].pooled

    def loss(params, stats, volumes):
        return jnp.square(forward(params, stats, volumes, train=True)).sum()

    function = forward if mode == "forward" else jax.value_and_grad(loss)
    return compiled(function, pure.params, pure.batch_stats, volumes)


def measure_layers(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Prints a row a layer: milliseconds of both forms, ratio, seconds of compiling."""
    print("| layer | pass | plain, ms | planes, ms | plain / planes | compiling, s |")
    print("|---|---|---|---|---|---|")
    rows = []
    for row in LAYERS:
        batch, side, before, after, kernel, stride = row
        name = f"{kernel}^3, stride {stride}, {before}-{after}, {side}^3 x {batch}"
        for mode in MODES:
            built = {form: layer(form, mode, row) for form in FORMS}
            sides = {form: seconds for form, (seconds, _) in built.items()}
            found = take_turns(sides, options.repeats)
            compiling = {form: took for form, (_, took) in built.items()}
            rows.append({"layer": name, "mode": mode, "seconds": found})
            gains = ratios(found["plain"], found["planes"])
            print(
                f"| {name} | {mode} | {span(found['plain'], 1e3, 1)} "
                f"| {span(found['planes'], 1e3, 1)} | {span(gains, digits=1)} "
                f"| {compiling['plain']:.2f}, {compiling['planes']:.2f} |",
                flush=True,
            )
    return rows


def measure_networks(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Prints a row a network and side: seconds, ratio to ours, seconds of compiling."""
    if not options.depths:
        return []
    print("\n| network | pass | side | s | side / planes | compiling, s |")
    print("|---|---|---|---|---|---|")
    forms = ["planes"] if options.no_plain else list(FORMS)
    words = (str(options.size), str(options.batch))
    peer = None
    if options.peer_python:
        peer = Peer(options.peer_python, "convolution_peer.py", *words)
    rows = []
    for depth in options.depths:
        for mode in MODES:
            built = {form: network(form, mode, options, depth) for form in forms}
            sides = {form: seconds for form, (seconds, _) in built.items()}
            if peer:
                for memory in ("default", "channels_last"):
                    call = partial(peer_pass, peer, depth, memory, mode)
                    call()
                    sides[f"PyTorch, {memory}"] = call
            found = take_turns(sides, options.repeats)
            rows.append({"depth": depth, "mode": mode, "seconds": found})
            for name, times in found.items():
                took = f"{built[name][1]:.1f}" if name in built else ""
                print(
                    f"| ResNet-{depth}, {options.size}^3 x {options.batch} | {mode} "
                    f"| {name} | {span(times)} | {span(ratios(times, found['planes']))}"
                    f" | {took} |",
                    flush=True,
                )
    if peer:
        peer.close()
    return rows


def main() -> None:
    """Measures, prints two tables, writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    standard_arguments(parser, repeats=5)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--depths", type=int, nargs="*", default=[18, 50])
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--no-layers", action="store_true")
    options = start(parser)
    report = facts()
    print(f"{report['machine']}, load {report['load'][0]}, jax {report['jax']}\n")
    layers = [] if options.no_layers else measure_layers(options)
    networks = measure_networks(options)
    write(report | {"layers": layers, "networks": networks}, options.out)


if __name__ == "__main__":
    main()
