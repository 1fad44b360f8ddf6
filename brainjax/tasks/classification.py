"""Classification: one of several classes a scan, with their probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num
from scipy.special import softmax

from brainjax.errors import InputRefusedError
from brainjax.losses import cross_entropy, masked_mean
from brainjax.tasks.labels import class_name, known, refuse_mixed


@dataclass(frozen=True)
class Classification:
    """A class of a subject, such as the sex; `Classification.make` reads a config.

    Attributes:
      target: name of the label.
      unit: for readers.
      classes: names seen in training, sorted (whole numbers by size).
      counts: training scans of each class.
    """

    target: str
    unit: str = "class"
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    name: ClassVar[str] = "classification"
    constant_name: ClassVar[str] = "most frequent class"

    @classmethod
    def make(cls, *, target: str, unit: str = "") -> "Classification":
        """Makes an unfitted task."""
        return cls(target, unit or "class")

    def fit(self, values: Sequence[Any]) -> "Classification":
        """Learns the classes from the training labels; None is left out.

        Raises:
          InputRefusedError: fewer than two labels or classes, numbers that are not
            whole, numbers among words.
        """
        names = self.names(known(values))
        if len(names) < 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted at least 2 training scans with a "
                f"class, got {len(names)} of {len(values)}"
            )
        counts = Counter(names)
        if len(counts) < 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted at least 2 classes, got {len(names)} "
                f"scans of {names[0]!r} only"
            )
        classes = sorted(counts, key=_by_size)
        return replace(
            self, classes=tuple(classes), counts=tuple(counts[c] for c in classes)
        )

    @property
    def outputs(self) -> int:
        """Width of the network's head: one logit a class."""
        return len(self._fitted())

    @property
    def constant(self) -> Float[np.ndarray, " k"]:
        """The output that looks at no scan: log training frequencies."""
        self._fitted()
        return np.log(np.array(self.counts) / sum(self.counts)).astype(np.float32)

    def encode(
        self, values: Sequence[Any]
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Gives class numbers, and weights that are 0 where there is nothing to learn.

        That is where a scan has no label, or a class that training never saw.

        Raises:
          InputRefusedError: numbers that are not whole, numbers among words.
        """
        place = {name: i for i, name in enumerate(self._fitted())}
        names = iter(self.names(known(values)))
        found = [-1 if v is None else place.get(next(names), -1) for v in values]
        targets = np.array(found, np.int32)
        return np.maximum(targets, 0), (targets >= 0).astype(np.float32)

    def loss(
        self,
        outputs: Float[Array, "b k"],
        targets: Num[Array, " b"],
        weights: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """Mean cross-entropy of the labelled samples, in nats; 0 without any."""
        targets = jnp.asarray(targets).astype(jnp.int32)
        return masked_mean(cross_entropy(outputs, targets), weights)

    def decode(self, outputs: Float[np.ndarray, "n k"]) -> list[str]:
        """Gives the name of the most probable class; the first of equals."""
        best = np.argmax(np.asarray(outputs).reshape(-1, self.outputs), axis=1)
        return [self.classes[i] for i in best]

    def probabilities(
        self, outputs: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """Gives the softmax, float64, in the order of `classes`."""
        return softmax(np.asarray(outputs, np.float64), axis=1)

    def columns(self, outputs: Float[np.ndarray, "n k"]) -> dict[str, list[Any]]:
        """Gives `prediction`, a class name, and `probability_<class>` of each."""
        made: dict[str, list[Any]] = {"prediction": self.decode(outputs)}
        for name, column in zip(
            self.classes, self.probabilities(outputs).T, strict=True
        ):
            made[f"probability_{name}"] = column.tolist()
        return made

    def to_dict(self) -> dict[str, Any]:
        """Gives JSON values that `from_dict` reads back."""
        made = {"name": self.name, "target": self.target, "unit": self.unit}
        return made | {"classes": list(self.classes), "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Classification":
        """Reads what `to_dict` gave."""
        classes, counts = tuple(given["classes"]), tuple(given["counts"])
        return cls(given["target"], given["unit"], classes, counts)

    def names(self, values: Sequence[Any]) -> list[str]:
        """Gives known labels as class names, also of classes never seen in training.

        Raises:
          InputRefusedError: numbers that are not whole, numbers among words.
        """
        refuse_mixed(values, self.target)
        return [class_name(value, self.target) for value in values]

    def _fitted(self) -> tuple[str, ...]:
        if not self.classes:
            raise ValueError(f"target {self.target!r}: fit the task before using it")
        return self.classes


def _by_size(name: str) -> tuple[int, str]:
    return (int(name) if name.removeprefix("-").isdecimal() else 0, name)
