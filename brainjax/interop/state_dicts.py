"""The state dict in what a checkpoint holds, and the plain facts beside it."""

from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import Opaque, shown
from brainjax.interop.tensors import check_key
from brainjax.interop.torch_records import Storage, Tensor, to_dict

CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "encoder"),
    *("backbone", "module", "weights"),
)
"""Keys that a state dict lies under, in the order in which they are looked for."""

MAX_FACT = 20_000
"""Values in one fact; a text counts once more for every 64 letters."""
MAX_FACTS = 5 * MAX_FACT
MAX_KEYS = 1_000
"""Keys at the top level that are not of the state dict."""
MAX_DEPTH = 16


class StateDict(NamedTuple):
    """The tensors that were chosen, the facts beside them, and where they lay."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def choose_state_dict(top: Any) -> StateDict:
    """Finds the state dict in what a file holds, and the plain values beside it.

    It is under the first of `CONTAINERS` that holds tensors, itself or one level
    below ("model.state_dict"), else the top level.

    Raises:
        InputRefusedError: there is none, or one of its values is not an array.
    """
    whole, top = top, to_dict(top)
    if top is None:
        raise InputRefusedError(
            f"wanted a state dict, got {shown(whole)}; save model.state_dict()"
        )
    container, found = _find(top)
    facts, left_out = _facts(top, container)
    tensors = {}
    for key, value in found.items():
        if isinstance(value, Tensor):
            check_key(key)
            tensors[key] = value
        elif container and (value is None or type(value) in (str, int, float, bool)):
            facts[f"{container}.{shown(key)[1:-1]}"] = value
        elif container or _is_array(value):
            raise InputRefusedError(
                f"{shown(key)}: wanted an array, got {shown(value)}"
            )
    return StateDict(tensors, {**facts, "container": container, "left out": left_out})


def _find(top: dict[Any, Any]) -> tuple[str, dict[Any, Any]]:
    for name in CONTAINERS:
        below = to_dict(top.get(name)) or {}
        if _holds_tensors(below):
            return name, below
        for inner in CONTAINERS:
            deeper = to_dict(below.get(inner)) or {}
            if _holds_tensors(deeper):
                return f"{name}.{inner}", deeper
    if _holds_tensors(top):
        return "", top
    keys = ", ".join(shown(key) for key in list(top)[:10]) or "nothing"
    raise InputRefusedError(
        f"wanted a state dict (at the top or under {', '.join(CONTAINERS[:4])}, ...), "
        f"got {keys}{', ...' if len(top) > 10 else ''}"
    )


def _holds_tensors(found: dict[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in found.values())


def _is_array(value: Any) -> bool:
    """Says whether an opaque value stands for an array, so that it must be known."""
    name = value.name if isinstance(value, Opaque) else ""
    return name.startswith(("torch._", "tensor of", "numpy"))


def _facts(top: dict[Any, Any], container: str) -> tuple[dict[str, Any], list[str]]:
    """Gives the plain values at the top level, and the keys of the others."""
    facts, left_out, budget = {}, [], MAX_FACTS
    for key, value in top.items():
        if key == container.partition(".")[0] and container:
            continue
        if isinstance(value, Tensor) and not container:
            continue
        if len(facts) + len(left_out) == MAX_KEYS:
            left_out.append("...")
            break
        name = key if type(key) is str and key.isprintable() else shown(key)
        left = [given := min(MAX_FACT, budget)]
        try:
            facts[name[:200]] = _plain(value, left, 0)
        except _NotPlainError:
            left_out.append(name[:200])
        budget -= given - max(left[0], 0)
    return facts, left_out


class _NotPlainError(Exception):
    pass


def _plain(value: Any, left: list[int], depth: int) -> Any:
    """Copies a value as plain data; `left` counts down what it may hold."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH or isinstance(value, Tensor | Storage):
        raise _NotPlainError
    if type(value) is str:
        left[0] -= len(value) // 64
    if value is None or type(value) in (str, int, float, bool):
        return value
    if type(value) in (list, tuple):
        return [_plain(one, left, depth + 1) for one in value]
    if isinstance(value, Opaque) and value.name == "argparse.Namespace":
        value = value.state
    elif isinstance(value, Opaque) and value.items:
        value = value.items
    if type(value) is dict:
        pairs = value.items()
        return {_word(key): _plain(one, left, depth + 1) for key, one in pairs}
    if depth == 0:
        raise _NotPlainError
    return f"<{shown(value)}>"


def _word(key: Any) -> str:
    return key if type(key) is str else shown(key)
