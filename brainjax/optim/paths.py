"""Paths of parameters, and prefixes of them."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from brainjax.errors import InputRefusedError

DECAYED = ("kernel",)
"""Names of the matrices that weight decay acts on.

A name, not a rank: stacked blocks give biases and norms a second dimension. Biases,
norm scales, position embeddings and tokens are therefore never decayed.
"""


def map_paths(function: Any, tree: Any, *others: Any) -> Any:
    """Gives the tree of function(path, leaf, leaves of the others in that place)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(
            jax.tree_util.keystr(path, simple=True, separator="/"), *leaves
        ),
        tree,
        *others,
    )


def check_prefixes(params: Any, prefixes: Sequence[str]) -> None:
    """Raises InputRefusedError, with the near miss, for a prefix nothing is under."""
    paths: list[str] = []
    map_paths(lambda path, _: paths.append(path), params)
    for prefix in prefixes:
        if not any(_under(path, prefix) for path in paths):
            parts = (path.split("/") for path in paths)
            known = {"/".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
            near = difflib.get_close_matches(prefix, sorted(known), 1, cutoff=0.0)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputRefusedError(
                f"parameters: wanted a path, got {prefix}, which none has{hint}"
            )


def decayed(params: Any) -> Any:
    """Gives a tree of whether weight decay acts on a parameter."""
    return map_paths(lambda path, _: is_decayed(path), params)


def is_decayed(path: str) -> bool:
    """Whether weight decay acts on the parameter of this path."""
    return path.split("/")[-1] in DECAYED


def longest(path: str, prefixes: Sequence[str] | Mapping[str, float]) -> str | None:
    """Gives the longest prefix that a path is under, None where there is none."""
    return max((p for p in prefixes if _under(path, p)), key=len, default=None)


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")
