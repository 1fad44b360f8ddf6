"""Entries of the layers that convolutional networks are made of, and their sizes."""

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import Entry, Keywords, Shape

COUNTER = "num_batches_tracked"


def convolution(
    theirs: str,
    ours: tuple[str, ...],
    before: int,
    after: int,
    kernel: int = 3,
    *,
    bias: bool = False,
) -> list[Entry]:
    """Gives the entries of a 3D convolution."""
    shape = (after, before, kernel, kernel, kernel)
    weight = Entry(f"{theirs}.weight", shape, "params", (*ours, "kernel"), "kernel")
    if not bias:
        return [weight]
    return [weight, Entry(f"{theirs}.bias", (after,), "params", (*ours, "bias"))]


def batch_norm(theirs: str, ours: tuple[str, ...], channels: int) -> list[Entry]:
    """Gives the entries of a batch norm; its counter is among the `counters`."""
    names = [
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    ]
    return [
        Entry(f"{theirs}.{name}", (channels,), part, (*ours, leaf))
        for name, part, leaf in names
    ]


def counters_of(
    entries: Callable[[Keywords], Iterable[Entry]],
) -> Callable[[Keywords, str], dict[str, np.ndarray]]:
    """Gives the `extras` of a layout: a counter of batches, 0, for every batch norm."""

    def extras(keywords: Keywords, flavour: str) -> dict[str, np.ndarray]:
        norms = [
            entry.theirs.removesuffix("running_mean")
            for entry in entries(keywords)
            if entry.theirs.endswith(".running_mean")
        ]
        return {norm + COUNTER: np.zeros((), np.int64) for norm in norms}

    return extras


def ignore_counter(key: str, keywords: Keywords) -> str:
    """Gives why a key is not needed where it is such a counter, else ""."""
    return "a counter of training batches" if key.endswith("." + COUNTER) else ""


def count_levels(
    keys: Iterable[str], template: str, *, firsts: tuple[int, int] = (0, 0)
) -> tuple[int, ...]:
    """Counts the blocks of each level.

    Args:
        keys: of the file.
        template: start of a block's keys, such as "layer{}.{}.", where the two places
            hold the numbers of the level and of the block.
        firsts: number of the first level, and of the first block of each.

    Raises:
        InputRefusedError: there is none, or a number is left out.
    """
    pattern = re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))
    matches = [match for key in keys if (match := pattern.match(key))]
    found = sorted({(int(match[1]), int(match[2])) for match in matches})
    levels = sorted({level for level, _ in found})
    counts = tuple(sum(one == level for one, _ in found) for level in levels)
    start, first = firsts
    wanted = [(start + i, first + j) for i, n in enumerate(counts) for j in range(n)]
    if not found or found != wanted:
        got = ", ".join(template.format(*pair) for pair in found) or "none"
        raise InputRefusedError(
            f"wanted blocks numbered from {template.format(*firsts)}, got {got}"
        )
    return counts


def size(shapes: Mapping[str, Shape], key: str, *wanted: int | None) -> tuple[int, ...]:
    """Gives the shape of a key; None is any size.

    Raises:
        InputRefusedError: there is no such key, or another size.
    """
    words = "[" + ", ".join("any" if n is None else str(n) for n in wanted) + "]"
    if key not in shapes:
        raise InputRefusedError(f"{key}: wanted {words}, got none")
    got = tuple(shapes[key])
    fits = len(got) == len(wanted) and all(
        n is None or n == m for n, m in zip(wanted, got, strict=True)
    )
    if not fits:
        raise InputRefusedError(f"{key}: wanted {words}, got {list(got)}")
    return got
