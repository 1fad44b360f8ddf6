"""Regression: one number a scan, learnt as a z-score, answered in its unit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import softmax

from brainjax.anatomy import RANGES, UNITS
from brainjax.errors import InputRefusedError
from brainjax.losses import huber, l1, masked_mean, mse, soft_bins, soft_logits
from brainjax.tasks.labels import chosen, is_number, known, number, refuse_words
from brainjax.tasks.stored import Labels, as_json, at_least, from_json, listed, whole

LOSSES = {"mse": mse, "l1": l1, "huber": huber, "bins": soft_bins}
"""Losses by the name a config gives, on z-scores; "bins" has an output a bin."""


@dataclass(frozen=True)
class Regression:
    """A number of a subject, such as the age; `Regression.make` reads a config.

    Attributes:
      target: name of the label.
      unit: of the label, for readers.
      penalty: row of `LOSSES`.
      mean, std: of the training labels, in units; None before `fit`.
      bins, spread: of loss "bins": how many, and the standard deviation of the
        distribution round a label, in units (0: as wide as a bin).
      limits: smallest and largest label there can be, in units; () for any.
      ends: centres of the first and the last bin, in units; of loss "bins".
    """

    target: str
    unit: str = ""
    penalty: str = "mse"
    mean: float | None = None
    std: float | None = None
    bins: int = 40
    spread: float = 0.0
    limits: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()

    name: ClassVar[str] = "regression"
    constant_name: ClassVar[str] = "training mean"

    @classmethod
    def make(
        cls,
        *,
        target: str,
        unit: str = "",
        loss: str = "mse",
        bins: int = 40,
        spread: float = 0.0,
        range: Sequence[float] = (),
    ) -> "Regression":
        """Makes an unfitted task; the unit of age and of times needs no stating.

        range: (low, high) in units; left out, that of `anatomy.RANGES`, if there is
        one of that name and the unit is not another.

        Raises:
          InputRefusedError: there is no such loss, fewer than 2 bins, a negative
            spread, a range that is not low to high.
        """
        what = f"of target {target!r}"
        chosen(f"loss {what}", loss, LOSSES)
        bins = whole(2, bins, f"bins {what}")
        at_least(0, spread, f"spread {what}")
        usual = UNITS.get(target, "")
        unit = unit or usual
        limits = _limits(range, f"range {what}")
        if not limits and unit == usual:
            limits = RANGES.get(target, ())
        return cls(target, unit, loss, bins=bins, spread=float(spread), limits=limits)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that it needs."""
        return (self.target,)

    def values(self, labels: Labels) -> list[Any]:
        """Gives the number of every scan, None where it is unknown.

        Raises:
          InputRefusedError: there is no such column.
        """
        return labels(self.target)

    def fit(self, values: Sequence[Any]) -> "Regression":
        """Learns mean and spread from the training labels; None is left out.

        Raises:
          InputRefusedError: a label is no finite number or out of range, or fewer
            than two differ.
        """
        learnt = self.numbers(known(values))
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
        task = replace(self, mean=float(learnt.mean()), std=float(learnt.std()))
        return task._with_bins(learnt) if self.binned else task

    def _with_bins(self, learnt: Float[np.ndarray, " n"]) -> "Regression":
        """Lays bins over the training labels and two spreads beyond.

        So the distribution round an outer label has its mean there, to within 6 % of a
        spread.
        """
        low, high = float(learnt.min()), float(learnt.max())
        # Bins as wide as the spread: high - low + 4 spreads = (bins - 1) spreads.
        spread = self.spread or (high - low) / max(self.bins - 5, 1)
        ends = (low - 2 * spread, high + 2 * spread)
        width = (ends[1] - ends[0]) / (self.bins - 1)
        if spread < width / 2:
            raise InputRefusedError(
                f"spread of target {self.target!r}: wanted at least half a bin, "
                f"{width / 2:.3g}, got {spread:g}; take more bins"
            )
        return replace(self, spread=spread, ends=ends)

    @property
    def binned(self) -> bool:
        """Says whether outputs are logits of bins."""
        return self.penalty == "bins"

    @property
    def outputs(self) -> int:
        """Width of the network's head."""
        return self.bins if self.binned else 1

    @property
    def constant(self) -> Float[np.ndarray, " k"]:
        """The output that looks at no scan: the training mean."""
        if not self.binned:
            return np.zeros(1, np.float32)
        centres, spread = self._centres()
        logits = soft_logits(jnp.zeros(1), jnp.asarray(centres), spread=spread)
        return np.asarray(logits[0], np.float32)

    def encode(
        self, values: Sequence[Any]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Gives z-scores, and weights that are 0 where a scan has no label.

        Raises:
          InputRefusedError: a label is no finite number, or out of range.
        """
        mean, std = self._scale()
        there = np.array([value is not None for value in values], bool)
        numbers = np.full(len(values), mean)
        numbers[there] = self.numbers(known(values))
        return ((numbers - mean) / std).astype(np.float32), there.astype(np.float32)

    def numbers(self, values: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """Gives known labels as numbers in units, float64.

        Raises:
          InputRefusedError: a label is no finite number, or out of range.
        """
        refuse_words(values, self.target)
        found = np.array([number(value, self.target) for value in values], float)
        low, high = self.limits or (-np.inf, np.inf)
        for value in found[(found < low) | (found > high)][:1]:
            unit = f" {self.unit}" if self.unit else ""
            raise InputRefusedError(
                f"target {self.target!r}: wanted {low:g} to {high:g}{unit}, got "
                f"{value:g}; another range is a setting of the task"
            )
        return found

    def loss(
        self,
        outputs: Float[Array, "b k"],
        targets: Float[Array, " b"],
        weights: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """Mean loss of the labelled samples, on z-scores; 0 where there is none."""
        if self.binned:
            centres, spread = self._centres()
            centres = jnp.asarray(centres, outputs.dtype)
            values = soft_bins(outputs, targets, centres, spread=spread)
        else:
            values = LOSSES[self.penalty](outputs[:, 0], targets)
        return masked_mean(values, weights)

    def answer(self, outputs: Float[Array, "n k"]) -> Float[Array, " n"]:
        """Gives answers in units as a part of a compiled program; else see `decode`."""
        mean, std = self._scale()
        if self.binned:
            centres = jnp.asarray(self._centres()[0], outputs.dtype)
            return jax.nn.softmax(outputs, axis=1) @ centres * std + mean
        return outputs[:, 0] * std + mean

    def decode(self, outputs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Gives answers in units, float64; of bins, their mean by probability."""
        mean, std = self._scale()
        outputs = np.asarray(outputs, np.float64)
        if self.binned:
            return softmax(outputs, axis=1) @ self._centres()[0] * std + mean
        return outputs[:, 0] * std + mean

    score_higher = decode

    def columns(self, outputs: Float[np.ndarray, "n k"]) -> dict[str, list[Any]]:
        """Gives a column `prediction`, in units."""
        return {"prediction": self.decode(outputs).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Gives JSON values that `from_dict` reads back."""
        return as_json(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Regression":
        """Reads what `to_dict` gave."""
        made = from_json(cls, given)
        chosen(f"loss of target {made.target!r}", made.penalty, LOSSES)
        return made

    def _centres(self) -> tuple[Float[np.ndarray, " k"], float]:
        """Gives the bins' centres and the spread of a label, as z-scores."""
        mean, std = self._scale()
        first, last = self.ends
        centres = np.linspace(first, last, self.bins)
        return (centres - mean) / std, self.spread / std

    def _scale(self) -> tuple[float, float]:
        if self.mean is None or self.std is None:
            raise ValueError(f"target {self.target!r}: fit the task before using it")
        return self.mean, self.std


def _limits(given: Any, what: str) -> tuple[float, ...]:
    limits = listed(given)
    right = len(limits) in (0, 2) and all(map(is_number, limits))
    if not right or (limits and not limits[0] < limits[1]):
        raise InputRefusedError(f"{what}: wanted (low, high), got {given!r}")
    return tuple(map(float, limits))
