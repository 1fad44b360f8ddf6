"""From a module to plain nested dicts of arrays, and back for one call.

At run time the state is plain dicts: a `jax.jit` step over them costs 0.4 ms a call,
`nnx.jit` 3-7 ms, and a checkpoint of them needs no class of ours to be read.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx

Tree = dict[str, Any]
"""A nested dict, string keys, arrays at the leaves."""


class Pure(NamedTuple):
    """A module taken apart.

    Attributes:
        graphdef: the structure, hashable and static under `jax.jit`.
        params: nested dict of float32 arrays; the position in a list becomes a
            string key ("0", "1", ...).
        batch_stats: nested dict of running statistics, empty without BatchNorm.
    """

    graphdef: nnx.GraphDef
    params: Tree
    batch_stats: Tree


def to_pure(module: nnx.Module) -> Pure:
    """Takes a module apart; under `nnx.eval_shape`d modules the leaves are shapes.

    Raises:
        TypeError: the module holds state that is neither parameter nor statistic
            (random streams: give keys to the call instead).
    """
    graphdef, params, stats, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    left = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(rest)]
    if left:
        raise TypeError(f"state that is neither parameter nor statistic: {left}")
    return Pure(graphdef, _to_strings(params), _to_strings(stats))


def run(
    graphdef: nnx.GraphDef,
    params: Tree,
    batch_stats: Tree,
    *args,
    train: bool,
    method: str = "__call__",
    **keywords,
) -> tuple[Any, Tree]:
    """Calls a module that was taken apart.

    Args:
        graphdef: from `to_pure`.
        params: nested dict of parameters; differentiate with respect to it.
        batch_stats: nested dict of running statistics.
        *args: for the module.
        train: True uses and updates batch statistics, False the running ones.
        method: name of the method to call.
        **keywords: for the module.

    Returns:
        What the module gave, and the new running statistics.
    """
    states = nnx.State(_to_paths(params)), nnx.State(_to_paths(batch_stats))
    # Without a copy, BatchNorm writes to a variable of another trace level.
    module = nnx.merge(graphdef, *states, copy=True)
    module.train() if train else module.eval()
    outputs = getattr(module, method)(*args, **keywords)
    return outputs, _to_strings(nnx.state(module, nnx.BatchStat))


def count_parameters(params: Tree) -> int:
    """Number of values in a tree of arrays or of shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _to_strings(state: nnx.State) -> Tree:
    """A state as nested dicts; integer keys of lists become strings."""

    def convert(tree):
        if isinstance(tree, dict):
            return {str(key): convert(value) for key, value in tree.items()}
        return tree

    return convert(nnx.to_pure_dict(state))


def _to_paths(tree: Tree) -> dict[str | int, Any]:
    """The inverse: no attribute can be called "0", so digits are list positions."""
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if key.isdigit() else key: _to_paths(value)
        for key, value in tree.items()
    }
