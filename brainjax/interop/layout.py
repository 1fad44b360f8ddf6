"""Layouts: what another package calls each parameter, and how it lies in memory.

A layout works both ways: `gather` reads a foreign file into our trees, `scatter` writes
ours under foreign names. Every foreign key is an `Entry`, or ignored with a reason.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
Keywords = dict[str, Any]
"""Constructor keywords of an encoder."""

THREADS = 4
"""Arrays read and turned at a time."""


class Entry(NamedTuple):
    """One foreign array and its place in ours.

    Attributes:
        theirs: key in the foreign file, without the file's prefix.
        shape: of the foreign array.
        part: "params" or "batch_stats".
        ours: path below that part, relative to the module the layout describes.
        how: row of `MOVES`.
        layer: index into our leading axis, where ours is a stack; else None.
    """

    theirs: str
    shape: Shape
    part: str
    ours: tuple[str, ...]
    how: str = "same"
    layer: int | None = None


class Move(NamedTuple):
    """How values change places: `to_ours(array)`, `to_theirs(array, their_shape)`."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray, Shape], np.ndarray]


def _patch_to_ours(kernel: np.ndarray) -> np.ndarray:
    # [width, channel, p, q, r] -> voxels of a patch (z fastest, channel within), width
    width = kernel.shape[0]
    return np.moveaxis(kernel, 1, -1).reshape(width, -1).T


def _patch_to_theirs(kernel: np.ndarray, shape: Shape) -> np.ndarray:
    width, channels, *sides = shape
    return np.moveaxis(kernel.T.reshape(width, *sides, channels), -1, 1)


MOVES = {
    "same": Move(lambda a: a, lambda a, _: a),
    "transposed": Move(lambda a: a.T, lambda a, _: a.T),
    # [out, in, x, y, z] <-> [x, y, z, in, out]
    "kernel": Move(
        lambda a: a.transpose(2, 3, 4, 1, 0), lambda a, _: a.transpose(4, 3, 0, 1, 2)
    ),
    # A transposed convolution holds [in, out, x, y, z]; ours is [x, y, z, in, out].
    "up_kernel": Move(
        lambda a: a.transpose(2, 3, 4, 0, 1), lambda a, _: a.transpose(3, 4, 0, 1, 2)
    ),
    "patch": Move(_patch_to_ours, _patch_to_theirs),
}
"""Ways to lay out the same values, by the word the conversion table prints."""


@dataclass(frozen=True)
class Layout:
    """How another package stores one family of networks.

    Attributes:
        name: for readers, such as "MONAI ViT".
        encoder: row of `models.ENCODERS`, or "unetr".
        anchors: keys by which a file is recognised; one of them is in every file.
        infer: shapes by key (without the file's prefix) -> constructor keywords, as far
            as the file tells; raises InputRefusedError where it cannot be one.
        entries: constructor keywords -> every array that we need, in their order.
        ignore: (key, keywords) -> why we do not need a key; "" where it is unknown.
        extras: (keywords, flavour) -> arrays that the other package wants and we have
            not; a flavour is a version of that package, "" its newest.
        heads: names of linear layers behind the encoder that the package has.
        checked: what this was compared with; "" where it was read from source only.
    """

    name: str
    encoder: str
    anchors: tuple[str, ...]
    infer: Callable[[Mapping[str, Shape]], Keywords]
    entries: Callable[[Keywords], list[Entry]]
    ignore: Callable[[str, Keywords], str]
    extras: Callable[[Keywords, str], dict[str, np.ndarray]]
    heads: tuple[str, ...] = ()
    checked: str = ""


def gather(
    entries: list[Entry], read: Callable[[str], np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Reads foreign arrays into `{"params": tree, "batch_stats": tree}`, float32.

    read: gives the foreign array of a key (without the file's prefix); from any thread.
    """
    trees: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
    stacks: dict[tuple[str, tuple[str, ...]], list[Entry]] = {}
    for entry in entries:
        stacks.setdefault((entry.part, entry.ours), []).append(entry)

    def place(layers: list[Entry]) -> np.ndarray:
        first = layers[0]
        if first.layer is None:
            return np.array(_moved(first, read), np.float32, order="C")
        found = None
        for entry in layers:
            array = _moved(entry, read)
            if found is None:
                found = np.empty((len(layers), *array.shape), np.float32)
            found[entry.layer] = array
        return found  # pyright: ignore[reportReturnType]

    # Reading and turning 350 MB is most of what a file costs; NumPy shares the cores.
    with ThreadPoolExecutor(THREADS) as pool:
        for (part, path), array in zip(
            stacks, pool.map(place, stacks.values()), strict=True
        ):
            _put(trees[part], path, array)
    return trees


def _moved(entry: Entry, read: Callable[[str], np.ndarray]) -> np.ndarray:
    return MOVES[entry.how].to_ours(np.asarray(read(entry.theirs), np.float32))


def scatter(
    entries: list[Entry], trees: Mapping[str, Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Writes our trees under foreign names; the inverse of `gather`."""
    found = {}
    for entry in entries:
        leaf: Any = trees[entry.part]
        for key in entry.ours:
            leaf = leaf[key]
        array = np.asarray(leaf)
        if entry.layer is not None:
            array = array[entry.layer]
        array = MOVES[entry.how].to_theirs(array, entry.shape)
        if array.shape != entry.shape:
            raise ValueError(f"{entry.theirs}: {array.shape} is not {entry.shape}")
        found[entry.theirs] = np.ascontiguousarray(array)
    return found


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: np.ndarray) -> None:
    *parents, name = path
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[name] = leaf
