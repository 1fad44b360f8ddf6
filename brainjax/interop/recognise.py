"""Which layout a foreign file has, and what becomes of each of its keys."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from brainjax.errors import InputRefusedError
from brainjax.interop.account import (
    Recognised,
    account,
    left_out,
    refuse_unaccounted,
)
from brainjax.interop.files import TensorFile
from brainjax.interop.layout import Layout, Shape
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.layouts.vit import is_sincos
from brainjax.interop.origins import ORIGINS, guess_origin
from brainjax.models import ENCODERS
from brainjax.models.encoded import at_least, triple

T = TypeVar("T")

HEADS = ("classifier.fc",)
"""Linear heads beside the encoder, whatever its layout: BrainIAC's."""


def recognise(
    file: TensorFile,
    *,
    origin: str = "",
    settings: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    ignore: Sequence[str] = (),
) -> Recognised:
    """Finds out what a file holds; refuses it when a single key is unaccounted for.

    Args:
        file: an open checkpoint.
        origin: row of `ORIGINS`; guessed from the keys if "".
        settings: constructor keywords that the file does not tell; they win.
        prefix: of the network's keys, where a file holds several.
        ignore: patterns (as "momentum.*") of keys to leave out.

    Raises:
        InputRefusedError: no layout, several networks, or unaccounted keys; names the
            nearest layout.
    """
    shapes = {
        key: info.shape
        for key, info in file.tensors.items()
        if not left_out(key, ignore)
    }
    name, prefix = _find_network(file, shapes, prefix)
    layout, settings = LAYOUTS[name], settings or {}
    told = in_file(file, lambda: layout.infer(_below(shapes, prefix)))
    if not origin:
        origin = in_file(file, lambda: guess_origin(name, told, prefix, settings))
    stated = {**_keywords_of_origin(file, name, origin, told), **settings}
    keywords = in_file(file, lambda: _add(name, told, stated))
    _refuse_untold(file, name, keywords)
    keywords = _settle_positions(file, name, prefix, keywords)
    entries = in_file(file, lambda: layout.entries(keywords))
    head = _find_head(shapes, layout, prefix)
    found = Recognised(name, origin, prefix, keywords, entries, head, [])
    others = [one for one in _copies(shapes, name) if one != found.encoder_prefix]
    rows = account(file, found, others, ignore)
    refuse_unaccounted(file, layout, rows)
    return found._replace(rows=rows)


def _copies(shapes: Mapping[str, Shape], name: str) -> list[str]:
    """Gives the prefix of every encoder of this kind in the file."""
    kind = "vit" if name == "unetr" else name
    return _prefixes(shapes, LAYOUTS[kind].anchors)


def in_file(file: TensorFile, give: Callable[[], T]) -> T:
    """Gives what `give` does; refusals, and words of a wrong type, name the file."""
    try:
        return give()
    except InputRefusedError as error:
        raise InputRefusedError(f"{file.path}: {error}") from None
    except (TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise InputRefusedError(f"{file.path}: {line}; see --set") from None


def _keywords_of_origin(
    file: TensorFile, name: str, origin: str, told: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Gives what an origin adds to a layout; refuses one that has no such layout."""
    if origin not in ORIGINS:
        raise InputRefusedError(
            f"--origin: wanted one of {', '.join(ORIGINS)}, got {origin!r}"
        )
    if name not in ORIGINS[origin].keywords:
        raise InputRefusedError(
            f"{file.path}: wanted a file of {ORIGINS[origin].name}, got one laid out "
            f"as {LAYOUTS[name].name}"
        )
    for key, wanted in ORIGINS[origin].needs.items():
        if told.get(key) != wanted:
            raise InputRefusedError(
                f"{file.path}: wanted {key} {wanted}, as {ORIGINS[origin].name} has, "
                f"got {told.get(key)}"
            )
    return ORIGINS[origin].keywords[name]


def _add(
    name: str, told: Mapping[str, Any], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """Adds what was stated to what the file tells; of a UNETR most concerns its ViT."""
    if name != "unetr":
        return _known(LAYOUTS[name].encoder, {**told, **stated})
    own = {k: v for k, v in stated.items() if k in ("feature_size", "outputs")}
    inner = {k: v for k, v in stated.items() if k not in own}
    encoder = _known("vit", {**told["encoder"], **inner})
    return {**told, **own, "encoder": encoder}


def _known(encoder: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """Refuses what the encoder's constructor does not take; gives sizes as three."""
    taken = signature(ENCODERS[encoder].__init__).parameters
    for key in keywords:
        if key not in taken:
            near = difflib.get_close_matches(key, list(taken), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputRefusedError(f"encoder {encoder} has no {key}{hint}")
    if "heads" in keywords:
        at_least(1, keywords["heads"], "heads")
    sizes = {k: triple(keywords[k], k) for k in ("shape", "patch") if k in keywords}
    return {**keywords, **sizes}


def _refuse_untold(file: TensorFile, name: str, keywords: Mapping[str, Any]) -> None:
    """Refuses a transformer of which the file leaves open what changes its answers."""
    if name not in ("vit", "nidl", "unetr"):
        return
    inner = keywords["encoder"] if name == "unetr" else keywords
    for key, what, example in (
        ("heads", f"number of attention heads (width {inner['width']})", "heads=12"),
        ("patch", "patch", "patch=(16,16,16)"),
        ("shape", "input's size (its patches fill no cube)", "shape=(96,112,96)"),
    ):
        if key not in inner:
            raise InputRefusedError(
                f"{file.path}: wanted the {what}, which the file does not tell: state "
                f"it, such as --set '{example}'"
            )


def _below(shapes: Mapping[str, Shape], prefix: str) -> dict[str, Shape]:
    start = len(prefix)
    return {k[start:]: shape for k, shape in shapes.items() if k.startswith(prefix)}


def _prefixes(keys: Iterable[str], anchors: tuple[str, ...]) -> list[str]:
    """Gives what stands before an anchor: "" or ends in a dot; the shortest first."""
    found = {
        key[: -len(anchor)]
        for key in keys
        for anchor in anchors
        if key == anchor or key.endswith("." + anchor)
    }
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _find_network(
    file: TensorFile, shapes: Mapping[str, Shape], prefix: str | None
) -> tuple[str, str]:
    """Gives row of `LAYOUTS` and prefix."""
    # UNETR holds a ViT, so it is looked for first.
    for name in sorted(LAYOUTS, key=lambda name: name != "unetr"):
        found = _prefixes(shapes, LAYOUTS[name].anchors)
        if prefix is not None:
            found = [one for one in found if one == prefix]
        if len(found) == 1:
            return name, found[0]
        if found:
            # Lightning keeps what a model was made of beside it: "model." runs.
            runs = [one for one in found if "model." + one in found]
            if len(found) == 2 and runs:
                return name, "model." + runs[0]
            raise InputRefusedError(
                f"{file.path}: wanted one network, got {len(found)} under "
                f"{', '.join(repr(one) for one in found[:5])}; choose with --prefix"
            )
    where = "" if prefix is None else f" under {prefix!r}"
    raise InputRefusedError(
        f"{file.path}: wanted a network of {_names()}{where}, got keys such as "
        f"{', '.join(list(shapes)[:3])}; {_nearest(shapes)}"
    )


def _names() -> str:
    return ", ".join(layout.name for layout in LAYOUTS.values())


def _settle_positions(
    file: TensorFile, name: str, prefix: str, keywords: dict[str, Any]
) -> dict[str, Any]:
    """Positions that equal the sin-cos formula are that, not parameters."""
    if name not in ("vit", "unetr"):
        return keywords
    inner = keywords["encoder"] if name == "unetr" else keywords
    start = prefix + ("vit." if name == "unetr" else "")
    key = start + "patch_embedding.position_embeddings"
    if "positions" in inner or key not in file.tensors:
        return keywords
    shape, patch = inner["shape"], inner["patch"]
    grid = tuple(side // p for side, p in zip(shape, patch, strict=True))
    if not is_sincos(file.read(key), grid):
        return keywords
    inner = {**inner, "positions": "sincos"}
    return {**keywords, "encoder": inner} if name == "unetr" else inner


def _find_head(shapes: Mapping[str, Shape], layout: Layout, prefix: str) -> str:
    """Gives the prefix of the linear head that belongs to the network, or ""."""
    if layout.encoder == "unetr":
        return ""
    inside = [prefix + head for head in layout.heads]
    # "model.backbone.backbone." belongs to "model.classifier.fc".
    roots = [prefix[: i + 1] for i, sign in enumerate(prefix) if sign == "."][::-1]
    beside = [root + head for root in [*roots, ""] for head in HEADS]
    for head in [*inside, *beside]:
        if len(shapes.get(f"{head}.weight", ())) == 2:
            return head
    return ""


def _nearest(shapes: Mapping[str, Shape]) -> str:
    """Names the layout whose vocabulary the file's keys share most."""
    words = {re.sub(r"\d+", "0", word) for key in shapes for word in key.split(".")}

    def shared(layout: Layout) -> int:
        return len(words & {word for a in layout.anchors for word in a.split(".")})

    best = max(LAYOUTS.values(), key=shared)
    return f"nearest layout: {best.name}, whose files have {best.anchors[0]}"
