"""Configurations: a file with `get_config()`, and overrides by name.

>>> load_config("configs/quickstart.py", ["--config.train.steps=100"])
"""

import ast
import difflib
import importlib.util
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from ml_collections import ConfigDict

from brainjax.errors import InputRefusedError

PREFIX = "--config."
T = TypeVar("T")
_WORDS = {"true": True, "false": False}
OPTIONAL = {"profile_steps": ()}
"""What every config has without writing it down, at its default."""


@runtime_checkable
class Config(Protocol):
    """A ConfigDict as type checkers should see it: a value has the type of its file.

    ConfigDict states no type for its attributes, so that checkers guess a wrong one.
    `construct` and the constructors refuse a value that does not fit.
    """

    def __getattr__(self, attribute: str, /) -> Any: ...


def load_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> ConfigDict:
    """Gives the locked config of a file's `get_config()`, with overrides applied.

    overrides: "--config.a.b=value", or that flag and its value one after the other. A
    value is read by the type of the default it replaces: int, float, bool (true,
    false), str, tuple or list ("4,4,4" or "(4,4,4)"), or none; a default of None takes
    any Python literal, else the text. Raises InputRefusedError, one line, for a file
    that cannot be used, an unknown key (with the near miss) and a wrong type.
    """
    config = _read_file(Path(path))
    config.unlock()
    for key, default in OPTIONAL.items():
        if key not in config:
            config[key] = default
    for key, text in _pairs(overrides):
        _override(config, key, text)
    return config.lock()


def construct(
    section: str, constructor: Callable[..., T], /, *arguments: Any, **keywords: Any
) -> T:
    """Calls a constructor with the keys of a section of a config.

    Raises InputRefusedError, one line, for a key that the constructor does not have
    (with the near miss) and for one it wants and the section lacks.
    """
    signature = inspect.signature(constructor)
    known = signature.parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        for key in keywords:
            if key not in signature.parameters:
                near = _nearest(key, signature.parameters)
                raise InputRefusedError(
                    f"config.{section}.{key}: there is no such key{near}"
                )
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        raise InputRefusedError(f"config.{section}: {error}") from None
    return constructor(*arguments, **keywords)


def need(config: Config, *keys: str) -> None:
    """Refuses a config of another kind of run: each of these keys must be there.

    Raises InputRefusedError that names the first one missing.
    """
    known = to_dict(config)
    for key in keys:
        if key not in known:
            raise InputRefusedError(
                f"config: wanted {key}, got a config without it; is it meant for "
                "another verb?"
            )


def choose(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a value of a key that is none of those allowed."""
    if value not in allowed:
        raise InputRefusedError(
            f"{PREFIX}{key}: wanted one of {', '.join(allowed)}, got {value!r}"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """Gives a config as the plain dict that its JSON gives back: tuples as lists."""
    return json.loads(json.dumps(config.to_dict(), sort_keys=True))


def parse_value(text: str, default: Any) -> Any:
    """Reads a word of the command line by the type of the default it replaces.

    Raises ValueError when it cannot be read so.
    """
    if text.lower() == "none" and not isinstance(default, str):
        return None
    if isinstance(default, bool):
        return _bool(text)
    if isinstance(default, int | float):
        return type(default)(text)
    if isinstance(default, tuple | list):
        words = text.strip("()[] ")
        items = [word.strip() for word in words.split(",") if word.strip()]
        return type(default)(_item(word, default, i) for i, word in enumerate(items))
    return text if isinstance(default, str) else _literal(text)


def _read_file(path: Path) -> ConfigDict:
    if not path.is_file():
        raise InputRefusedError(f"{path}: wanted a config file, got nothing there")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputRefusedError(f"{path}: wanted a .py file, got {path.suffix or '-'}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputRefusedError(f"{path}: wanted a config, got {reason}") from error
    if not isinstance(config, ConfigDict):
        got = type(config).__name__ if config is not None else "none"
        raise InputRefusedError(
            f"{path}: wanted a get_config() that gives a ConfigDict, got {got}"
        )
    return config


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    words = iter(overrides)
    for word in words:
        key, equals, text = word.removeprefix(PREFIX).partition("=")
        if not word.startswith(PREFIX) or not key:
            raise InputRefusedError(f"wanted {PREFIX}key=value, got {word}")
        if not equals:
            text = next(words, PREFIX)
            if text.startswith(PREFIX):
                raise InputRefusedError(f"{word}: wanted a value, got none")
        yield key, text


def _override(config: ConfigDict, key: str, text: str) -> None:
    known = dict(_flatten(config))
    if key not in known:
        _refuse_unknown(key, known)
    default = known[key]
    try:
        value = parse_value(text, default)
    except (ValueError, SyntaxError):
        wanted = f"{type(default).__name__} (default {default})"
        raise InputRefusedError(
            f"{PREFIX}{key}: wanted {wanted}, got {text!r}"
        ) from None
    *parents, name = key.split(".")
    group: Any = config
    for parent in parents:
        group = group[parent]
    with group.ignore_type():
        group[name] = value


def _refuse_unknown(key: str, known: dict[str, Any]) -> None:
    below = [name for name in known if name.startswith(key + ".")]
    if below:
        raise InputRefusedError(f"{PREFIX}{key}: wanted one key, such as {below[0]}")
    # The right name in the wrong group is nearer than a like-looking path.
    same = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    hint = f"; did you mean {same[0]}?" if same else _nearest(key, known)
    raise InputRefusedError(f"{PREFIX}{key}: there is no such key{hint}")


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), 1, cutoff=0.0)
    return f"; did you mean {near[0]}?" if near else ""


def _flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in config:
        value = config[name]
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _item(word: str, default: Any, index: int) -> Any:
    if not default:
        return _literal(word)
    return parse_value(word, default[min(index, len(default) - 1)])


def _bool(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError(text)
    return _WORDS[text.lower()]


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
