"""What becomes of each key of a foreign file; not one is left unaccounted for."""

import fnmatch
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.files import TensorFile
from brainjax.interop.layout import Entry, Layout, Shape
from brainjax.interop.layouts import LAYOUTS

BESIDE = (
    (r"bilinear_pooling\.", "BrainIAC v1's unused bilinear layer; never read"),
    (r"up_layers\.", "decoder of SegResNetDS, which is not carried over"),
    (r"(projector|projection|projection_head|simclr_head)\.", "projection head"),
    (r"(criterion|loss|loss_fn|train_\w+|val_\w+|test_\w+)\.", "training, not network"),
)
"""Patterns of keys beside the network that need no layout to be understood."""


class Row(NamedTuple):
    """What becomes of one key: `status` is "mapped", "ignored", "missing", "unknown".

    `note` says how it is laid out anew, or why it is ignored.
    """

    key: str
    shape: Shape
    status: str
    note: str


class Recognised(NamedTuple):
    """A file understood, no tensor read yet.

    Attributes:
        layout: row of `LAYOUTS`; origin: row of `ORIGINS`.
        prefix: of the encoder's (or UNETR's) keys.
        keywords: the network's constructor keywords, from the file and the origin.
        entries: the arrays that are needed, below the prefix.
        head: prefix of the linear head's weight and bias, or "".
        rows: one for every key of the file, in its order, and for every missing one.
    """

    layout: str
    origin: str
    prefix: str
    keywords: dict[str, Any]
    entries: list[Entry]
    head: str
    rows: list[Row]

    @property
    def encoder_prefix(self) -> str:
        """Prefix of the encoder's keys: UNETR holds its own below "vit."."""
        return self.prefix + ("vit." if self.layout == "unetr" else "")


def account(
    file: TensorFile,
    found: Recognised,
    others: Sequence[str],
    ignore: Sequence[str],
) -> list[Row]:
    """Gives a row for every key of the file, and for every key that it lacks.

    others: prefixes of further encoders in the file; ignore: patterns to leave out.
    """
    wanted = {found.prefix + entry.theirs: entry for entry in found.entries}
    head = {f"{found.head}.weight", f"{found.head}.bias"} if found.head else set()
    rows = []
    for key, info in file.tensors.items():
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in ignore):
            rows.append(Row(key, info.shape, "ignored", "left out by --ignore"))
        elif key in head:
            rows.append(Row(key, info.shape, "mapped", _note_of_head(found)))
        elif key not in wanted:
            reason = _reason(file, key, found, others)
            status = "ignored" if reason else "unknown"
            rows.append(Row(key, info.shape, status, reason or "has no place"))
        elif info.shape != wanted[key].shape:
            note = f"wanted {list(wanted[key].shape)}"
            rows.append(Row(key, info.shape, "unknown", note))
        else:
            note = "" if wanted[key].how == "same" else wanted[key].how
            rows.append(Row(key, info.shape, "mapped", note))
    kept = {row.key for row in rows if row.status == "mapped"}
    refused = {row.key for row in rows if row.status == "unknown"}
    lacking = [key for key in wanted if key not in kept | refused]
    rows += [Row(k, wanted[k].shape, "missing", "not there") for k in lacking]
    outside = file.facts.get("left out", [])
    return rows + [Row(key, (), "ignored", "beside the weights") for key in outside]


def _note_of_head(found: Recognised) -> str:
    # MONAI's ViT has Sequential(Linear, Tanh) there, and a lone Linear without ".0".
    tanh = found.head.endswith("classification_head.0")
    return "head; without the tanh that MONAI puts behind it" if tanh else "head"


def refuse_unaccounted(file: TensorFile, layout: Layout, rows: Sequence[Row]) -> None:
    """Raises InputRefusedError unless every key is mapped or ignored for a reason."""
    bad = [row for row in rows if row.status in ("unknown", "missing")]
    if not bad:
        return
    shown = "; ".join(f"{row.key} {list(row.shape)}: {row.note}" for row in bad[:3])
    raise InputRefusedError(
        f"{file.path}: {len(bad)} of {len(rows)} keys are unaccounted for: {shown}; "
        f"nearest layout: {layout.name}, which explains {len(rows) - len(bad)}; "
        "--ignore PATTERN leaves keys out"
    )


def _reason(
    file: TensorFile, key: str, found: Recognised, others: Sequence[str]
) -> str:
    """Says why a key is not needed; "" where nothing is known of it."""
    layout = LAYOUTS[found.layout]
    if key.startswith(found.prefix):
        reason = layout.ignore(key[len(found.prefix) :], found.keywords)
        if reason:
            return reason
    for pattern, reason in BESIDE:
        if re.search(rf"(^|\.){pattern}", key):
            return reason
    if found.head:
        for end in (".weight", ".bias"):
            name = found.head.removeprefix("model.") + end
            if key in (name, "model." + name):
                return _compare(file, key, found.head + end)
    for other in others:
        if key.startswith(other):
            return _reason_of_copy(file, key, other, found)
    return ""


def _reason_of_copy(file: TensorFile, key: str, other: str, found: Recognised) -> str:
    bare = key[len(other) :]
    twin = found.encoder_prefix + bare
    if twin in file.tensors:
        return _compare(file, key, twin)
    kind = "vit" if found.layout == "unetr" else found.layout
    reason = LAYOUTS[kind].ignore(bare, found.keywords)
    return reason or f"of another network, under {other!r}, that is not the one chosen"


def _compare(file: TensorFile, key: str, twin: str) -> str:
    """Says whether a copy that does not run is equal to the one that does."""
    if file.tensors[key].shape != file.tensors[twin].shape:
        return f"not run; of another size than {twin}"
    if file.is_shared(key, twin) or np.array_equal(file.read(key), file.read(twin)):
        return f"equal copy of {twin}"
    return f"not run; a copy of {twin} with other values"
