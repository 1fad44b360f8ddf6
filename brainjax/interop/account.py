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
    (r"conv_seg\.", "MedicalNet's segmentation head"),
    (r"up_layers\.", "decoder of SegResNetDS, which is not carried over"),
    (r"(projector|projection|projection_head|simclr_head)\.", "projection head"),
    (r"(criterion|loss|loss_fn|train_\w+|val_\w+|test_\w+)\.", "training, not network"),
)
"""Keys beside the network that need no layout to be understood."""

TRAINING = re.compile(
    r"optimi[sz]er|sched|scaler|precision|callback|loop|hyper|hparam|config|args|rng"
    r"|random|epoch|step|history|datamodule|loss|metric|version|param_groups",
    re.IGNORECASE,
)
"""Names of what lies beside a state dict and is no part of a network."""


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
        if left_out(key, ignore):
            rows.append(Row(key, info.shape, "ignored", "left out by --ignore"))
        elif key in head:
            note = _join(_note_of_head(found), _widened(info.dtype))
            rows.append(Row(key, info.shape, "mapped", note))
        elif key not in wanted:
            reason = _reason(file, key, found, others)
            status = "ignored" if reason else "unknown"
            rows.append(Row(key, info.shape, status, reason or "has no place"))
        elif info.shape != wanted[key].shape:
            note = f"wanted {list(wanted[key].shape)}"
            rows.append(Row(key, info.shape, "unknown", note))
        else:
            how = wanted[key].how
            note = _join("" if how == "same" else how, _widened(info.dtype))
            rows.append(Row(key, info.shape, "mapped", note))
    placed = {row.key for row in rows if row.status in ("mapped", "unknown")}
    lacking = [key for key in wanted if key not in placed]
    rows += [Row(k, wanted[k].shape, "missing", "not there") for k in lacking]
    return rows + [_outside(key, ignore) for key in file.facts.get("left out", [])]


def left_out(key: str, ignore: Sequence[str]) -> bool:
    """Whether a key matches one of the patterns to ignore."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in ignore)


def _outside(key: str, ignore: Sequence[str]) -> Row:
    """The row of what lies beside the state dict and is not plain."""
    if left_out(key, ignore):
        return Row(key, (), "ignored", "left out by --ignore")
    if TRAINING.search(key):
        return Row(key, (), "ignored", "of the training, beside the weights")
    return Row(key, (), "unknown", "beside the weights, and not read")


def _widened(dtype: str) -> str:
    return "" if dtype == "float32" else f"{dtype} to float32"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


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
    spare = all(row.status == "unknown" and row.note[:6] != "wanted" for row in bad)
    hint = "; --ignore PATTERN leaves keys out" if spare else ""
    raise InputRefusedError(
        f"{file.path}: {len(bad)} of {len(rows)} keys are unaccounted for: {shown}; "
        f"nearest layout: {layout.name}, which explains {len(rows) - len(bad)}{hint}"
    )


def _reason(
    file: TensorFile, key: str, found: Recognised, others: Sequence[str]
) -> str:
    """Says why a key is not needed; "" where nothing is known of it."""
    if key.startswith(found.prefix):
        bare = key[len(found.prefix) :]
        reason = LAYOUTS[found.layout].ignore(bare, found.keywords)
        if reason:
            return reason
    for other in others:
        if key.startswith(other):
            return _reason_of_copy(file, key, other, found)
    if found.head:
        for end in (".weight", ".bias"):
            name = found.head.removeprefix("model.") + end
            if key in (name, "model." + name):
                return _compare(file, key, found.head + end)
    return _beside(key, found)


def _beside(key: str, found: Recognised) -> str:
    """Says what a key beside the network is; one inside it has a layer's place."""
    rest = key.removeprefix(found.prefix)
    own = {entry.theirs.split(".")[0] for entry in found.entries}
    if key.startswith(found.prefix) and rest.split(".")[0] in own:
        return ""
    for pattern, reason in BESIDE:
        if re.search(rf"(^|\.){pattern}", rest):
            return reason
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
