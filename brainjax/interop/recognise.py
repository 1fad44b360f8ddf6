"""Which layout a foreign file has, and what becomes of each of its keys."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from brainjax.errors import InputRefusedError
from brainjax.interop.account import Recognised, account, refuse_unaccounted
from brainjax.interop.files import TensorFile
from brainjax.interop.layout import Layout, Shape
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.origins import ORIGINS, guess_origin

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
    shapes = {key: info.shape for key, info in file.tensors.items()}
    name, prefix = _find_network(file, shapes, prefix)
    layout = LAYOUTS[name]
    below = _below(shapes, prefix)
    keywords = _in_file(file, lambda: layout.infer(below))
    origin = origin or _in_file(file, lambda: guess_origin(name, keywords, prefix))
    if origin not in ORIGINS:
        raise InputRefusedError(
            f"--origin: wanted one of {', '.join(ORIGINS)}, got {origin!r}"
        )
    given = ORIGINS[origin].keywords.get(name)
    stated = {**_checked(file, name, origin, given), **(settings or {})}
    keywords = _add(name, keywords, stated)
    _refuse_unknown_heads(file, name, keywords)
    if name in ("vit", "unetr"):
        keywords = _settle_positions(file, name, prefix, keywords)
    entries = layout.entries(keywords)
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


def _in_file(file: TensorFile, give: Callable[[], T]) -> T:
    """Gives what `give` does; its refusals then name the file."""
    try:
        return give()
    except InputRefusedError as error:
        raise InputRefusedError(f"{file.path}: {error}") from None


def _checked(file: TensorFile, name: str, origin: str, given: Mapping | None):
    if given is None:
        raise InputRefusedError(
            f"{file.path}: wanted a file of {ORIGINS[origin].name}, got one laid out "
            f"as {LAYOUTS[name].name}"
        )
    return given


def _add(
    name: str, keywords: dict[str, Any], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """Adds what was stated; of a UNETR most of it concerns its ViT."""
    if name != "unetr":
        return {**keywords, **stated}
    own = {k: v for k, v in stated.items() if k in ("feature_size", "outputs")}
    inner = stated.get("encoder", {}) | {
        k: v for k, v in stated.items() if k not in (*own, "encoder")
    }
    return {**keywords, **own, "encoder": {**keywords["encoder"], **inner}}


def _refuse_unknown_heads(
    file: TensorFile, name: str, keywords: Mapping[str, Any]
) -> None:
    inner = keywords["encoder"] if name == "unetr" else keywords
    if name in ("vit", "nidl", "unetr") and "heads" not in inner:
        raise InputRefusedError(
            f"{file.path}: wanted the number of attention heads, which the file does "
            f"not tell for width {inner['width']}: state --set heads=N"
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
    """Gives row of `LAYOUTS` and prefix; of equal copies the last one runs."""
    # UNETR holds a ViT, so it is looked for first.
    for name in sorted(LAYOUTS, key=lambda name: name != "unetr"):
        found = _prefixes(shapes, LAYOUTS[name].anchors)
        if prefix is not None:
            found = [one for one in found if one == prefix]
        if len(found) == 1:
            return name, found[0]
        if found:
            # Lightning keeps what it was given beside the model that runs: "model.".
            runs = [one for one in found if one.startswith("model.")]
            if len(runs) == 1:
                return name, runs[0]
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
    from brainjax.interop.layouts.vit import is_sincos

    inner = keywords["encoder"] if name == "unetr" else keywords
    start = prefix + ("vit." if name == "unetr" else "")
    key = start + "patch_embedding.position_embeddings"
    if "positions" in inner or "shape" not in inner or key not in file.tensors:
        return keywords
    shape, patch = inner["shape"], inner["patch"]
    grid = tuple(side // p for side, p in zip(shape, patch, strict=True))
    if not is_sincos(file.read(key), grid):
        return keywords
    inner = {**inner, "positions": "sincos"}
    return {**keywords, "encoder": inner} if name == "unetr" else inner


def _find_head(shapes: Mapping[str, Shape], layout: Layout, prefix: str) -> str:
    """Gives the prefix of the linear head that belongs to the network, or ""."""
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
