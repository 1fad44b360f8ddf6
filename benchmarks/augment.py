"""Augmented views: every operation and the chain, beside MONAI's same operations.

python benchmarks/augment.py --peer-python ../monai-venv/bin/python
python benchmarks/augment.py --device gpu --peer-python ...   MONAI on all the cores

Both sides hold one volume in memory. The chain is five operations at p = 1 with matched
strengths: affine, bias field, gamma, blur, noise; ours also z-scores and counts inside
voxels only. An operation alone is ours without the z-score. "pretraining" is the chain
as pretraining draws it, from a volume at 1.5 mm (128 cubed): crop, affine and resizing
in one gather, each intensity with its own probability. On --device cpu both sides have
--cores (two); the sides alternate, so that a busy machine slows both; MONAI is measured
as one process with a thread a core and as a process a core, and compared by the faster.
The share of a step is that of two views of a scan, at --scans-per-s. Without
--peer-python only our side runs.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    Peer,
    Report,
    by_device,
    facts,
    head_like,
    ratio,
    standard_arguments,
    start,
    summary,
    table,
    take_turns,
    write,
)

from brainjax.augment import (
    AUGMENTATIONS,
    Augmentation,
    View,
    make_augmentation,
    random_views,
    view_keys,
)

SIZE = 96
STORED = 128
FIVE = ("affine", "bias", "gamma", "blur", "noise")
NOTHING = {
    "crop": (1, 1),
    "flip": 0,
    "brightness": 0,
    "contrast": 0,
    **dict.fromkeys(("bias", "gamma", "blur", "noise"), 0),
}
ALWAYS = {f"{name}_probability": 1 for name in FIVE[1:]}
CHAIN = make_augmentation(
    view=SIZE, crop=(1, 1), flip=0, brightness=0, contrast=0, **ALWAYS
)


def one_intensity(name: str) -> Callable:
    """Gives a function that changes every volume by one row of the table."""
    row, strength = AUGMENTATIONS[name], getattr(Augmentation(), name)

    def change(codes, keys):
        draws = jax.vmap(lambda key: row.draw(key, strength, 1.0))(keys)

        def one(pair):
            codes, draw = pair
            values = jnp.maximum(codes.astype(jnp.float32) - 1, 0) / 254
            return row.apply(View(values, codes > 0), draw).values

        many = jax.lax.map if jax.default_backend() == "cpu" else jax.vmap
        if many is jax.vmap:
            return jax.vmap(lambda codes, draw: one((codes, draw)))(codes, draws)
        return jax.lax.map(one, (codes, draws))

    return change


def operations() -> dict[str, tuple[Callable, int]]:
    """Gives what is measured, and the size of the volume it begins with."""
    affine = make_augmentation(view=SIZE, **NOTHING)
    crop = make_augmentation(view=SIZE, **{**NOTHING, "crop": (0.33, 1)})
    pretraining = make_augmentation(view=SIZE)
    found = {
        "chain": (functools.partial(random_views, CHAIN), SIZE),
        "pretraining": (functools.partial(random_views, pretraining), STORED),
        "affine": (functools.partial(random_views, affine), SIZE),
        "crop": (functools.partial(random_views, crop), STORED),
    }
    return found | {name: (one_intensity(name), SIZE) for name in AUGMENTATIONS}


class Ours:
    """One operation, compiled once for a batch."""

    def __init__(self, function: Callable, codes: np.ndarray, batch: int, calls: int):
        self.batch, self.calls, self.done = batch, calls, 0
        self.codes = jnp.asarray(np.stack([codes] * batch))
        self.step = jax.jit(function)
        self()  # Compiles.

    def __call__(self) -> float:
        """Gives the milliseconds of a view, new draws each."""
        begun = time.perf_counter()
        for _ in range(self.calls):
            keys = view_keys(0, self.done + jnp.arange(self.batch), 0)
            jax.block_until_ready(self.step(self.codes, keys))
            self.done += self.batch
        return 1e3 * (time.perf_counter() - begun) / self.calls / self.batch


def theirs(peer: Peer, name: str, form: str, views: int) -> Callable[[], float]:
    """Gives what says the milliseconds of a view of MONAI's."""

    def milliseconds() -> float:
        answer = peer.ask(name=name, form=form, views=views)
        return 1e3 * answer["seconds"] / views

    return milliseconds


def measure(options: argparse.Namespace, peer: Peer | None) -> list[Report]:
    """Measures every operation asked for; the sides take turns."""
    volumes = {size: head_like(size) for size in (SIZE, STORED)}
    rows = []
    for name, (function, size) in operations().items():
        if options.only and name not in options.only:
            continue
        ours = Ours(function, volumes[size], options.batch, options.calls)
        sides: dict[str, Callable[[], float]] = {"brainjax": ours}
        if peer and name in ("chain", *FIVE):
            for form in ("one", "many"):
                sides[f"MONAI, {form}"] = theirs(peer, name, form, options.peer_views)
        found = take_turns(sides, options.repeats)
        row = {
            "operation": name,
            "ms_a_view": {k: summary(v) for k, v in found.items()},
        }
        row["milliseconds"] = found
        others = [values for key, values in found.items() if key != "brainjax"]
        if others:
            row["gain"] = ratio(min(others, key=statistics.median), found["brainjax"])
        rows.append(row)
    return rows


def share(milliseconds: float, options: argparse.Namespace) -> float:
    """Gives the share of two views in a scan's part of a step."""
    return 2 * milliseconds * options.scans_per_s / 1e3


def tell(report: Report, options: argparse.Namespace) -> None:
    """Prints the table."""
    print(f"{report['machine']}, load {report['load'][0]}, jax {report['jax']}\n")
    rows = []
    for row in report["rows"]:
        ours = row["ms_a_view"]["brainjax"]
        medians = [
            f"{row['ms_a_view'][key]['median']:.1f}"
            for key in ("MONAI, one", "MONAI, many")
            if key in row["ms_a_view"]
        ]
        gain = row.get("gain")
        rows.append(
            [
                row["operation"],
                f"{ours['median']:.3g} ({ours['min']:.3g}-{ours['max']:.3g})",
                f"{1e3 / ours['median']:.0f}",
                ", ".join(medians),
                f"{gain['median']:.1f} ({gain['min']:.1f}-{gain['max']:.1f})"
                if gain
                else "",
                f"{share(ours['median'], options):.1%}",
            ]
        )
    heads = ["operation", "ms a view", "views/s", "MONAI, one, many processes, ms"]
    step = f"share of a step at {options.scans_per_s:g} scans/s"
    print(table([*heads, "MONAI / ours", step], rows))


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard_arguments(parser)
    add = parser.add_argument
    add("--batch", type=int, help="views in a call of ours")
    add("--calls", type=int, help="of ours in each repeat")
    add("--peer-views", type=int, help="of MONAI's in each repeat")
    add("--scans-per-s", type=float, help="of the step that the share is of")
    add("--only", nargs="*", help="operations; all if left out")
    options = start(parser)
    cpu = {"batch": 8, "calls": 3, "peer_views": 8, "scans_per_s": 0.95}
    gpu = {"batch": 128, "calls": 10, "peer_views": 64, "scans_per_s": 1780}
    by_device(options, cpu, gpu)
    report = facts()
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if options.peer_python:
            path, volume = Path(folder) / "volume.npy", head_like(SIZE)
            np.save(path, np.maximum(volume.astype(np.float32) - 1, 0) / 254)
            cores = str(len(os.sched_getaffinity(0)))
            peer = Peer(options.peer_python, "augment_peer.py", str(path), cores)
            report["peer"] = peer.versions
        report["rows"] = measure(options, peer)
        if peer:
            peer.close()
    tell(report, options)
    write(report, options.out)


if __name__ == "__main__":
    main()
