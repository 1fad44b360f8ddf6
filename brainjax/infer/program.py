"""The compiled program of a segmentation run: a prepared case to probabilities.

The whole volume goes through at once where the memory bound allows, else by windows.
What a program needs is what the compiler says of it, not an estimate.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from brainjax.augment import case_view
from brainjax.errors import InputRefusedError
from brainjax.evaluate.windows import OVERLAP, Shape, whole_logits, window_starts
from brainjax.models.pure import run as run_network
from brainjax.records.memory import available_bytes
from brainjax.tasks import Segmentation
from brainjax.train.restore import Run, plan_network
from brainjax.volume.exact import ExactRecipe

log = logging.getLogger("brainjax")

KINDS = ("segment", "segmentation")
"""Kinds of run that segment: trained here, and converted."""

FREE = 0.8
"""Share of the free memory that a program may take where nobody states a bound."""

BATCH = 8
"""Windows at a time at most, on an accelerator."""

SIDE = 16
"""Sides of smaller windows are whole multiples of this."""

LESS_OVERLAP = 0.25
"""Of windows that only the memory asks for: fewer of them."""


class Structures(NamedTuple):
    """What a run's outputs are.

    Attributes:
      names: of the structures.
      sigmoid: whether each is a yes or no of its own; else a softmax, whose first
        output is the background.
      pairs: structures (from 0) that are one another's on the other side.
    """

    names: tuple[str, ...]
    sigmoid: bool
    pairs: tuple[tuple[int, int], ...]


class Program(NamedTuple):
    """What answers for one case.

    Attributes:
      call: codes [s, x, y, z] -> probabilities [c, x, y, z]: of a softmax with the
        background's, which come first.
      structures: what they are of.
      size: of its windows; count: how many; batch: at a time.
      bytes: that it takes beside the parameters, None where the compiler does not say.
    """

    call: Callable[[Shaped[np.ndarray, "s x y z"]], Float32[np.ndarray, "c x y z"]]
    structures: Structures
    size: Shape
    count: int
    batch: int
    bytes: int | None


def structures_of(run: Run) -> Structures:
    """Gives what a run's outputs are; of a converted one, names by number.

    Raises InputRefusedError: the run does not segment.
    """
    if run.kind not in KINDS:
        raise InputRefusedError(
            f"{run.folder}: wanted a segmentation run, got one of kind {run.kind}"
        )
    if isinstance(run.task, Segmentation):
        task = run.task
        return Structures(tuple(task.classes), task.sigmoid, tuple(task.pairs()))
    outputs = int(run.network.get("outputs", 1))
    if outputs == 1:
        return Structures(("structure",), True, ())
    names = tuple(f"structure_{number}" for number in range(1, outputs))
    return Structures(names, False, ())


def make_program(
    run: Run, *, flips: bool = False, memory_bytes: int | None = None
) -> Program:
    """Compiles what answers for a case of a run, within a memory bound.

    A run that learnt from the whole volume sees it at once, and where that does not fit
    windows of half a side and so on, if its network can take them; one that learnt from
    crops sees windows of their size.

    Args:
      run: a segmentation run.
      flips: whether to average over the case and its mirror image.
      memory_bytes: that it may take; a share of what is free where None.

    Raises:
      InputRefusedError: no segmentation run, flips of scans whose axes are as stored or
        of a structure that has no other side, or nothing fits.
    """
    structures = structures_of(run)
    if flips and isinstance(run.recipe, ExactRecipe):
        raise InputRefusedError(
            f"--flips: wanted a recipe whose first axis is left to right, got "
            f"{run.recipe.name} of {run.folder}"
        )
    if flips and isinstance(run.task, Segmentation) and run.task.one_sided():
        raise InputRefusedError(
            f"--flips: wanted both sides of {run.task.one_sided()[0]} among the "
            f"structures, got one, of {run.folder}"
        )
    bound = free_bytes() if memory_bytes is None else memory_bytes
    field, least = run.recipe.shape, None
    for size in _sizes(run):
        graphdef = _at(run, size)
        if graphdef is None:
            break
        overlap = OVERLAP if size == run.view else LESS_OVERLAP
        count = len(window_starts(_padded(field, size), size, overlap))
        words = {"structures": structures, "size": size, "overlap": overlap}
        made = partial(_compile, run, graphdef, flips=flips, **words)
        call, need = made(batch=1)
        if need is None or bound is None or need <= bound:
            batch = _batch(count, need, bound)
            if batch > 1:
                call, need = made(batch=batch)
            if size != run.view:
                log.info("segment: %d windows of %s, to fit the memory", count, size)
            return Program(call, structures, size, count, batch, need)
        least = need
    raise InputRefusedError(
        f"{run.folder}: wanted {(least or 0) / 2**30:.2g} GB of memory for its "
        f"smallest window, got {(bound or 0) / 2**30:.2g} GB (--memory-gb)"
    )


def free_bytes() -> int | None:
    """Gives the memory that a program may take on the first device; None if unknown."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        free = available_bytes()
        return None if free is None else int(FREE * free)
    stats = device.memory_stats()
    if not stats or "bytes_limit" not in stats:
        return None
    return int(FREE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))


def _sizes(run: Run) -> list[Shape]:
    """Gives sizes of windows, the best first."""
    sizes = [tuple(run.view)]
    whole = all(v >= f for v, f in zip(run.view, run.recipe.shape, strict=True))
    while whole and max(sizes[-1]) > SIDE:
        last = list(sizes[-1])
        longest = last.index(max(last))
        last[longest] = -(-last[longest] // (2 * SIDE)) * SIDE
        sizes.append(tuple(last))
    return sizes  # pyright: ignore[reportReturnType]


def _at(run: Run, size: Shape) -> Any:
    """Gives the network's structure for another size; None where it has but one."""
    if size == tuple(run.view):
        return run.graphdef
    if run.kind != "segment":
        return None
    words = {**run.network["segmenter"], "shape": list(size)}
    if "encoder" in words:
        words["encoder"] = {**words["encoder"], "shape": list(size)}
    try:
        planned = plan_network(run.kind, {**run.network, "segmenter": words})
    except InputRefusedError:  # it needs a larger one
        return None
    shapes = jax.tree.map(lambda leaf: leaf.shape, (planned.params,))
    same = jax.tree.map(lambda leaf: np.shape(leaf), (run.params,)) == shapes
    return planned.graphdef if same else None


def _padded(field: Shape, size: Shape) -> Shape:
    x, y, z = (max(f, s) for f, s in zip(field, size, strict=True))
    return x, y, z


def _batch(count: int, need: int | None, bound: int | None) -> int:
    """Gives windows at a time: a CPU gains nothing from more than one."""
    if jax.default_backend() == "cpu" or need is None or bound is None:
        return 1
    return max(1, min(count, BATCH, int(bound // max(need, 1))))


def _compile(
    run: Run,
    graphdef: Any,
    *,
    structures: Structures,
    size: Shape,
    overlap: float,
    batch: int,
    flips: bool,
) -> tuple[Callable, int | None]:
    """Compiles the program for one size; gives it, and the bytes that it takes."""
    field = run.recipe.shape

    def answer(params: Any, batch_stats: Any, codes: Array) -> Array:
        call = partial(run_network, graphdef, params, batch_stats, train=False)

        def logits(windows: Array) -> Array:
            found, _ = call(windows)
            return getattr(found, "logits", found)  # a converted one gives them alone

        volume = case_view(codes, field)
        words = {"size": size, "overlap": overlap, "batch": batch}
        whole = partial(whole_logits, logits, **words)
        if not flips:
            found = whole(volume)
        else:
            both = jnp.stack([volume, jnp.flip(volume, axis=0)])
            found, mirrored = jax.lax.map(whole, both)
            mirrored = jnp.flip(mirrored, axis=0)[..., _swapped(structures)]
            found = (found + mirrored) / 2
        return jnp.moveaxis(probabilities(found, structures.sigmoid), -1, 0)

    sequences = max(len(run.network.get("sequences") or ()), 1)
    codes = jax.ShapeDtypeStruct((sequences, *field), np.dtype(run.recipe.storage))
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype),
        (run.params, run.batch_stats),
    )
    compiled = jax.jit(answer).lower(*abstract, codes).compile()
    stats = compiled.memory_analysis()
    need = None if stats is None else _bytes_of(stats)

    def ask(codes: Shaped[np.ndarray, "s x y z"]) -> Float32[np.ndarray, "c x y z"]:
        return np.asarray(compiled(run.params, run.batch_stats, jnp.asarray(codes)))

    return ask, need


def _bytes_of(stats: Any) -> int:
    return int(stats.temp_size_in_bytes + stats.output_size_in_bytes)


def _swapped(structures: Structures) -> np.ndarray:
    """Gives the outputs in the order that a mirror image has them in."""
    first = 0 if structures.sigmoid else 1
    order = np.arange(len(structures.names) + first)
    for one, other in structures.pairs:
        order[[one + first, other + first]] = other + first, one + first
    return order


def probabilities(logits: Float[Array, "*n k"], sigmoid: bool) -> Float[Array, "*n k"]:
    """Gives the probability of every output, the background's too."""
    return jax.nn.sigmoid(logits) if sigmoid else jax.nn.softmax(logits)
