"""Reads a step into the tree that is asked for; no leaf is unaccounted for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from brainjax.errors import InputRefusedError

_ABSENT = object()


def load_state(folder: Path, abstract: Any, parts: Sequence[str] | None) -> Any:
    """Reads the leaves of `abstract` (below `parts`, or all) onto their shardings.

    Raises InputRefusedError when names, shapes or dtypes are not those saved.
    """
    saved = ocp.checkpointables_metadata(str(folder)).metadata["state"]
    _compare(folder, _leaves(saved), _leaves(abstract), parts)
    wanted = jax.tree.map(_placed, abstract)
    loaded = ocp.load_checkpointables(str(folder), {"state": _fill(saved, wanted)})
    return _pick(loaded["state"], wanted)


def _leaves(tree: Any) -> dict[str, str]:
    """Gives "float32[3, 4]" by "params/encoder/kernel"."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{leaf.dtype}{list(leaf.shape)}"
        )
        for path, leaf in found
    }


def _compare(
    folder: Path,
    saved: dict[str, str],
    wanted: dict[str, str],
    parts: Sequence[str] | None,
) -> None:
    if parts is not None:
        saved = {k: v for k, v in saved.items() if any(_under(k, p) for p in parts)}
    names = sorted(saved.keys() | wanted.keys())
    wrong = [n for n in names if saved.get(n) != wanted.get(n)]
    if wrong:
        shown = ", ".join(
            f"{n} wanted {wanted.get(n, 'nothing')} got {saved.get(n, 'nothing')}"
            for n in wrong[:3]
        )
        raise InputRefusedError(
            f"{folder}: {len(wrong)} of {len(names)} leaves differ: {shown}"
        )


def _under(name: str, part: str) -> bool:
    return name == part or name.startswith(part.rstrip("/") + "/")


def _placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _fill(saved: Any, wanted: Any) -> Any:
    """Gives `wanted`, with Orbax's placeholder where the checkpoint holds more."""
    if wanted is _ABSENT:
        return jax.tree.map(lambda _: ocp.PLACEHOLDER, saved)
    if isinstance(saved, dict) and isinstance(wanted, dict):
        return {k: _fill(saved[k], wanted.get(k, _ABSENT)) for k in saved}
    return wanted


def _pick(loaded: Any, wanted: Any) -> Any:
    if isinstance(loaded, dict) and isinstance(wanted, dict):
        return {k: _pick(loaded[k], wanted[k]) for k in wanted}
    return loaded
