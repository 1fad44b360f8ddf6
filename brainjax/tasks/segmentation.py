"""Segmentation: which structures every voxel belongs to, out of maps of raw ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from brainjax.anatomy import split_side
from brainjax.errors import InputRefusedError
from brainjax.losses.segmentation import SEGMENTATION_LOSSES, deep_supervised
from brainjax.records.classes import UNKNOWN, Classes
from brainjax.tasks.labels import chosen, is_number
from brainjax.tasks.partition import Ids, Partition, partition
from brainjax.tasks.stored import Labels
from brainjax.tasks.structures import Named, read_ids, read_named

SMOOTHED = ("dice_ce", "dice_ce_boundary")
"""Losses that can spread a share of a label over all classes."""


@dataclass(frozen=True)
class Segmentation:
    """Structures of a label map; `Segmentation.make` reads a config.

    Attributes:
      classes: names.
      ids: raw ids of each.
      overlapping: whether a voxel may belong to several (a sigmoid for each).
      ignore: raw ids of voxels that never count.
      tissues: name and raw ids of what synthesis tells apart, classes or not.
      penalty: row of `SEGMENTATION_LOSSES`.
      smoothing: share of a label that is spread over all classes.
      weight: column of the table with the weight of a scan; 1 where it has none.
    """

    classes: tuple[str, ...]
    ids: tuple[Ids, ...]
    overlapping: bool = False
    ignore: tuple[int, ...] = ()
    tissues: tuple[tuple[str, Ids], ...] = ()
    penalty: str = "dice_ce"
    smoothing: float = 0.0
    weight: str = ""

    name: ClassVar[str] = "segmentation"
    target: ClassVar[str] = "label_map"
    unit: ClassVar[str] = "structure"

    @classmethod
    def make(
        cls,
        *,
        classes: Named,
        target: str = "label_map",
        overlapping: bool = False,
        ignore: Iterable[Any] = (),
        tissues: Named = (),
        loss: str = "dice_ce",
        smoothing: float = 0.0,
        weight: str = "",
    ) -> "Segmentation":
        """Makes a task; there is nothing to be fitted.

        classes: raw ids by name, "any" for all but 0; a dict or (name, ids) pairs. In
        this order come the outputs (a ConfigDict sorts its keys, pairs keep theirs).
        tissues: likewise.

        Raises:
          InputRefusedError: no class, a name or an id that is none, an id of two
            classes where they do not overlap, too many parts, another loss, a smoothing
            not in 0..1.
        """
        chosen("target of task 'segmentation'", target, (cls.target,))
        chosen("loss of task 'segmentation'", loss, SEGMENTATION_LOSSES)
        named = read_named("task.classes", classes)
        if not named:
            raise InputRefusedError("task.classes: wanted names with raw ids, got none")
        _check_smoothing(smoothing, loss)
        made = cls(
            tuple(named),
            tuple(named.values()),
            overlapping=bool(overlapping),
            ignore=read_ids("task.ignore", ignore),
            tissues=tuple(read_named("task.tissues", tissues).items()),
            penalty=loss,
            smoothing=float(smoothing),
            weight=weight,
        )
        made.partition  # noqa: B018  (refuses what cannot be)
        return made

    @property
    def sigmoid(self) -> bool:
        """Whether every structure is a yes or no of its own; else a softmax."""
        return self.overlapping or len(self.classes) == 1

    @property
    def outputs(self) -> int:
        """Logits of a voxel: of a softmax, the background's come first."""
        return len(self.classes) + (not self.sigmoid)

    @cached_property
    def partition(self) -> Partition:
        """Gives the parts that the structures, and tissues, cut a volume into.

        Raises:
          InputRefusedError: an id of two classes that do not overlap, of two tissues,
            or more than 254 parts.
        """
        return partition(
            dict(zip(self.classes, self.ids, strict=True)),
            overlapping=self.overlapping,
            ignore=self.ignore,
            tissues=dict(self.tissues),
            pairs=self.pairs(),
        )

    def numbering(self) -> Classes:
        """Gives what a data set makes the parts of raw ids by."""
        return Classes(self.classes, self.partition.table, self.partition.regions)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that it needs."""
        return (self.weight,) if self.weight else ()

    def values(self, labels: Labels) -> list[Any]:
        """Gives the weight of every scan; None where the table does not say.

        Raises:
          InputRefusedError: there is no such column, a weight is no number or negative.
        """
        if not self.weight:
            return [1.0 for _ in labels("subject")]
        return [_weight(self.weight, value) for value in labels(self.weight)]

    def fit(self, values: Sequence[Any]) -> "Segmentation":
        """Gives itself: nothing is learnt from weights."""
        return self

    def encode(self, values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Gives (nothing, weights) of scans, [n] each; labels are volumes."""
        weights = [1.0 if value is None else float(value) for value in values]
        return np.zeros(len(weights), np.int32), np.asarray(weights, np.float32)

    def loss(
        self,
        segmented: Any,
        parts: UInt8[Array, "b x y z"],
        weights: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """Gives the loss of a batch, deeper outputs included.

        Args:
          segmented: the network's logits, and the coarser ones.
          parts: numbers of the partition, `UNKNOWN` where it never counts.
          weights: of the scans.
        """
        one = SEGMENTATION_LOSSES[self.penalty]
        words: dict[str, Any] = {"smoothing": self.smoothing} if self.smoothing else {}
        if self.sigmoid:
            words["regions"] = self.partition.regions
        else:
            # The background has no Dice of its own: it is what all others leave.
            words["background"], parts = False, self.answers(parts)
        return deep_supervised(partial(one, **words), segmented, parts, weights)

    def answers(self, parts: UInt8[Array, "*n"]) -> UInt8[Array, "*n"]:
        """Gives the class of every voxel out of its part; `UNKNOWN` stays."""
        return jnp.asarray(_filled(self.partition.answers))[parts]

    def regions(self, parts: UInt8[Array, "*n"]) -> Bool[Array, "*n k"]:
        """Gives which structures every voxel belongs to; none where unknown."""
        filled = np.zeros((256, len(self.classes)), bool)
        filled[: len(self.partition.regions)] = self.partition.regions
        return jnp.asarray(filled)[parts]

    def probabilities(self, logits: Float[Array, "*n k"]) -> Float[Array, "*n o"]:
        """Gives the probability of each structure; a softmax leaves its background."""
        if self.sigmoid:
            return jax.nn.sigmoid(logits)
        return jax.nn.softmax(logits)[..., 1:]

    def decide(self, logits: Float[Array, "*n k"]) -> Bool[Array, "*n o"]:
        """Gives which structures every voxel is said to belong to."""
        if self.sigmoid:
            return logits > 0
        best = jnp.argmax(logits, axis=-1)
        return best[..., None] == jnp.arange(1, self.outputs)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Gives the structures (from 0) that are one another's on the other side."""
        sided = {split_side(name): i for i, name in enumerate(self.classes)}
        return tuple(
            (number, sided["right", rest])
            for (side, rest), number in sided.items()
            if side == "left" and ("right", rest) in sided
        )

    def one_sided(self) -> tuple[str, ...]:
        """Gives the structures of one side whose other side is none: no mirror fits."""
        paired = {number for pair in self.pairs() for number in pair}
        return tuple(
            name
            for number, name in enumerate(self.classes)
            if split_side(name)[0] and number not in paired
        )

    def to_dict(self) -> dict[str, Any]:
        """Gives JSON values that `from_dict` reads."""
        return {
            "name": self.name,
            "classes": [
                [name, _as_json(ids)]
                for name, ids in zip(self.classes, self.ids, strict=True)
            ],
            "overlapping": self.overlapping,
            "ignore": list(self.ignore),
            "tissues": [[name, _as_json(ids)] for name, ids in self.tissues],
            "loss": self.penalty,
            "smoothing": self.smoothing,
            "weight": self.weight,
        }

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Segmentation":
        """Reads what `to_dict` gave."""
        words = {key: value for key, value in given.items() if key != "name"}
        return cls.make(**words)


def _check_smoothing(smoothing: Any, loss: str) -> None:
    smoothed = loss in SMOOTHED
    known = is_number(smoothing) and 0 <= smoothing <= smoothed and smoothing != 1
    if not known:
        wanted = "0 to under 1" if smoothed else f"0 with loss {loss}"
        raise InputRefusedError(f"task.smoothing: wanted {wanted}, got {smoothing!r}")


def _as_json(ids: Ids) -> list[int] | str:
    return ids if isinstance(ids, str) else list(ids)


def _filled(answers: UInt8[np.ndarray, " p"]) -> UInt8[np.ndarray, " 256"]:
    filled = np.full(256, UNKNOWN, np.uint8)
    filled[: len(answers)] = answers
    return filled


def _weight(column: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < np.inf:
        raise InputRefusedError(f"{column}: wanted weights of 0 or more, got {value!r}")
    return number
