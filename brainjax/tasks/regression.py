"""Regression: one number a scan, learnt as a z-score, answered in its unit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float

from brainjax.anatomy import UNITS
from brainjax.errors import InputRefusedError
from brainjax.losses import huber, masked_mean, mse
from brainjax.tasks.labels import chosen, known, number, refuse_mixed

LOSSES = {"mse": mse, "huber": huber}
"""Losses by the name a config gives, on z-scores."""


@dataclass(frozen=True)
class Regression:
    """A number of a subject, such as the age; `Regression.make` reads a config.

    Attributes:
      target: name of the label.
      unit: of the label, for readers.
      penalty: row of `LOSSES`.
      mean, std: of the training labels, in units; None before `fit`.
    """

    target: str
    unit: str = ""
    penalty: str = "mse"
    mean: float | None = None
    std: float | None = None

    name: ClassVar[str] = "regression"
    constant_name: ClassVar[str] = "training mean"

    @classmethod
    def make(cls, *, target: str, unit: str = "", loss: str = "mse") -> "Regression":
        """Makes an unfitted task; the unit of age and of times needs no stating.

        Raises:
          InputRefusedError: there is no such loss.
        """
        chosen(f"loss of target {target!r}", loss, LOSSES)
        return cls(target, unit or UNITS.get(target, ""), loss)

    def fit(self, values: Sequence[Any]) -> "Regression":
        """Learns mean and spread from the training labels; None is left out.

        Raises:
          InputRefusedError: a label is no finite number, or fewer than two differ.
        """
        found = known(values)
        refuse_mixed(found, self.target)
        learnt = np.array([number(value, self.target) for value in found])
        if len(learnt) < 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted at least 2 training scans with a "
                f"value, got {len(learnt)} of {len(values)}"
            )
        if learnt.min() == learnt.max():
            raise InputRefusedError(
                f"target {self.target!r}: wanted training values that differ, got "
                f"{len(learnt)} times {learnt[0]:g}"
            )
        return replace(self, mean=float(learnt.mean()), std=float(learnt.std()))

    @property
    def outputs(self) -> int:
        """Width of the network's head."""
        return 1

    @property
    def constant(self) -> Float[np.ndarray, " k"]:
        """The output that looks at no scan: the training mean."""
        return np.zeros(1, np.float32)

    def encode(
        self, values: Sequence[Any]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Gives z-scores, and weights that are 0 where a scan has no label.

        Raises:
          InputRefusedError: a label is no finite number.
        """
        mean, std = self._scale()
        refuse_mixed(known(values), self.target)
        weights = np.array([value is not None for value in values], np.float32)
        numbers = [mean if v is None else number(v, self.target) for v in values]
        return ((np.array(numbers) - mean) / std).astype(np.float32), weights

    def loss(
        self,
        outputs: Float[Array, "b 1"],
        targets: Float[Array, " b"],
        weights: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """Mean loss of the labelled samples, on z-scores; 0 where there is none."""
        return masked_mean(LOSSES[self.penalty](outputs[:, 0], targets), weights)

    def decode(self, outputs: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, " n"]:
        """Gives answers in units, float64."""
        mean, std = self._scale()
        return np.asarray(outputs, np.float64)[:, 0] * std + mean

    def columns(self, outputs: Float[np.ndarray, "n 1"]) -> dict[str, list[Any]]:
        """Gives a column `prediction`, in units."""
        return {"prediction": self.decode(outputs).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Gives JSON values that `from_dict` reads back."""
        made = {"name": self.name, "target": self.target, "unit": self.unit}
        return made | {"loss": self.penalty, "mean": self.mean, "std": self.std}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Regression":
        """Reads what `to_dict` gave."""
        made = cls.make(target=given["target"], loss=given["loss"])
        return replace(made, **{key: given[key] for key in ("unit", "mean", "std")})

    def _scale(self) -> tuple[float, float]:
        if self.mean is None or self.std is None:
            raise ValueError(f"target {self.target!r}: fit the task before using it")
        return self.mean, self.std
