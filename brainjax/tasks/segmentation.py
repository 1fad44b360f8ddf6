"""Segmentation: which structures every voxel belongs to, out of maps of raw ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from brainjax.errors import InputRefusedError
from brainjax.losses.segmentation import SEGMENTATION_LOSSES, deep_supervised
from brainjax.records.classes import ANY, UNKNOWN, Classes
from brainjax.tasks.labels import chosen
from brainjax.tasks.partition import Ids, Partition, partition
from brainjax.tasks.stored import Labels, listed

SMOOTHED = ("dice_ce", "dice_ce_boundary")
"""Losses that can spread a share of a label over all classes."""
SIDES = ("left_", "right_")

Named = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Raw ids by name."""


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
          InputRefusedError: no class, an id that is none, an id of two classes where
            they do not overlap, too many parts, another loss, a smoothing not in 0..1.
        """
        chosen("target of task 'segmentation'", target, (cls.target,))
        chosen("loss of task 'segmentation'", loss, SEGMENTATION_LOSSES)
        named, tissues = dict(classes), dict(tissues)
        if not named:
            raise InputRefusedError("task.classes: wanted names with raw ids, got none")
        most = 1 if loss in SMOOTHED else 0
        if not 0 <= smoothing <= most or smoothing == 1:
            wanted = "0 to under 1" if most else f"0 with loss {loss}"
            raise InputRefusedError(f"task.smoothing: wanted {wanted}, got {smoothing}")
        made = cls(
            tuple(named),
            tuple(map(_ids, named.values())),
            overlapping=bool(overlapping),
            ignore=tuple(listed(ignore)),
            tissues=tuple((name, _ids(ids)) for name, ids in tissues.items()),
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
        names = list(self.classes)
        left, right = SIDES
        return tuple(
            (i, names.index(right + name.removeprefix(left)))
            for i, name in enumerate(names)
            if name.startswith(left) and right + name.removeprefix(left) in names
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


def _ids(given: Any) -> Ids:
    """Gives the ids of a config as they are hashed and written as JSON."""
    return given if given == ANY else tuple(listed(given))


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
