"""Inert stand-ins for what a pickle names or calls, and their printable form."""

from dataclasses import dataclass, field
from typing import Any

from brainjax.errors import InputRefusedError

REFUSED_MODULES = frozenset(
    (
        *("os", "posix", "nt", "sys", "subprocess", "commands", "popen2", "pty", "pdb"),
        *("bdb", "runpy", "importlib", "imp", "pkgutil", "shutil", "socket", "ctypes"),
        *("codeop", "webbrowser", "pip", "pickle", "_pickle", "marshal"),
    )
)
REFUSED_BUILTINS = frozenset(
    ("eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint", "input")
)


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A global that a pickle names, never looked up; `text` is "module.name"."""

    text: str


@dataclass(slots=True, eq=False, repr=False)
class Opaque:
    """What a pickle wanted built by calling `name`; nothing was called.

    Attributes:
        name: "module.name" of what it called, or the kind of a value we do not keep.
        args: of the call; state: of its BUILD; items: set as if it were a dict.
    """

    name: str
    args: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


def shown(value: Any) -> str:
    """Gives a value from a file as printable text on one line, 80 characters at most.

    Never recurses, and never prints what the file could make endless.
    """
    if isinstance(value, Name | Opaque):
        text = value.text if isinstance(value, Name) else value.name
        return shown(text)[1:-1]
    if isinstance(value, str | bytes):
        return repr(value[:80]) + ("..." if len(value) > 80 else "")
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int) and value.bit_length() <= 256:
        return repr(value)
    return f"a {type(value).__name__}"


def refuse_dangerous(module: str, name: str) -> None:
    """Refuses a global that no checkpoint needs; every other one stays inert.

    Nothing would be run either way: who sends such a file should not be trusted.
    """
    roots = {module.split(".")[0], *name.split(".")[:-1]}
    dangerous = bool(roots & REFUSED_MODULES)
    if roots & {"builtins", "__builtin__"}:
        dangerous = dangerous or name.split(".")[-1] in REFUSED_BUILTINS
    if dangerous:
        raise InputRefusedError(
            f"its pickle names {shown(f'{module}.{name}')[1:-1]}, which an attack "
            "needs and a checkpoint does not; nothing of it was run"
        )
