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
from brainjax.losses import cross_entropy, focal, masked_mean
from brainjax.tasks.follow_up import by_horizon, follow_up, refuse_twice
from brainjax.tasks.labels import chosen, class_name, known, refuse_mixed
from brainjax.tasks.stored import Labels, as_json, at_least, from_json, listed

LOSSES = ("cross_entropy", "focal")
"""Losses by the name a config gives."""


@dataclass(frozen=True)
class Classification:
    """A class of a subject, such as the sex; `Classification.make` reads a config.

    Attributes:
      target: name of the label.
      unit: for readers.
      classes: names seen in training, sorted (whole numbers by size), or as stated.
      counts: training scans of each class; () before `fit`.
      closed: whether a label outside the stated classes is refused.
      penalty: row of `LOSSES`; gamma: of the focal loss.
      balance: whether every class has the same say in the loss, however many its scans.
      event, horizon: turn a column of times into "yes" (the event came by then) and
        "no"; in units of the target.
    """

    target: str
    unit: str = "class"
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    closed: bool = False
    penalty: str = "cross_entropy"
    gamma: float = 2.0
    balance: bool = False
    event: str = ""
    horizon: float = 0.0

    name: ClassVar[str] = "classification"
    constant_name: ClassVar[str] = "most frequent class"

    @classmethod
    def make(
        cls,
        *,
        target: str,
        unit: str = "",
        loss: str = "cross_entropy",
        gamma: float = 2.0,
        balance: bool = False,
        event: str = "",
        horizon: float = 0.0,
        classes: Sequence[Any] = (),
    ) -> "Classification":
        """Makes an unfitted task.

        classes: their names in the order of the outputs; left out, those that training
        has. A label outside stated classes is refused.

        Raises:
          InputRefusedError: there is no such loss, a negative gamma, an event without
            a horizon or the reverse, one class.
        """
        what = f"of target {target!r}"
        chosen(f"loss {what}", loss, LOSSES)
        at_least(0, gamma, f"gamma {what}")
        at_least(0, horizon, f"horizon {what}")
        if bool(event) != bool(horizon):
            raise InputRefusedError(
                f"target {target!r}: wanted event and horizon together, got event "
                f"{event!r} and horizon {horizon:g}"
            )
        refuse_twice(f"task 'classification' {what}", target, event)
        names = ("no", "yes") if event else _stated(classes, target)
        return cls(
            *(target, unit or "class", names),
            closed=bool(names),
            penalty=loss,
            gamma=float(gamma),
            balance=bool(balance),
            event=event,
            horizon=float(horizon),
        )

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that it needs, the target first."""
        return (self.target, self.event) if self.event else (self.target,)

    def values(self, labels: Labels) -> list[Any]:
        """Gives the label of every scan, None where it is unknown.

        With a horizon that is "yes" where the event came by then, "no" where the
        subject was seen without it until then, and None where it was lost before.

        Raises:
          InputRefusedError: a column is missing; with a horizon, a time is negative or
            no number, an event is not 0 or 1, no scan has both.
        """
        if not self.event:
            return labels(self.target)
        return by_horizon(follow_up(labels, self.target, self.event), self.horizon)

    def fit(self, values: Sequence[Any]) -> "Classification":
        """Learns the classes from the training labels; None is left out.

        Raises:
          InputRefusedError: fewer than two labels or classes, numbers that are not
            whole, numbers among words, a label outside stated classes.
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
        classes = self.classes if self.closed else sorted(counts, key=_by_size)
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
        # Half a scan for a stated class that training lacks: log 0 answers nothing.
        counts = np.maximum(self.counts, 0.5)
        return np.log(counts / counts.sum()).astype(np.float32)

    def encode(
        self, values: Sequence[Any]
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Gives class numbers, and weights that are 0 where there is nothing to learn.

        That is where a scan has no label, or a class that training never saw.

        Raises:
          InputRefusedError: numbers that are not whole, numbers among words, a label
            outside stated classes.
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
        """Mean loss of the labelled samples, in nats; 0 without any.

        Balanced, it is a mean weighted by n / (k x scans of the class) in training.
        """
        targets = jnp.asarray(targets).astype(jnp.int32)
        if self.balance:
            counts = np.maximum(self.counts, 1)
            shares = jnp.asarray(counts.sum() / (len(counts) * counts), outputs.dtype)
            weights = weights * shares[targets]
        if self.penalty == "focal":
            return masked_mean(focal(outputs, targets, gamma=self.gamma), weights)
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

    def score_higher(
        self, outputs: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, " n"]:
        """Gives the probability of the second of two classes.

        Raises:
          InputRefusedError: more than two classes, which no one number ranks.
        """
        if self.outputs != 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted 2 classes to rank scans by, got "
                f"{', '.join(self.classes)}"
            )
        return self.probabilities(outputs)[:, 1]

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
        return as_json(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Classification":
        """Reads what `to_dict` gave."""
        made = from_json(cls, given)
        chosen(f"loss of target {made.target!r}", made.penalty, LOSSES)
        return made

    def names(self, values: Sequence[Any]) -> list[str]:
        """Gives known labels as class names, also of classes never seen in training.

        Raises:
          InputRefusedError: numbers that are not whole, numbers among words, a label
            outside stated classes.
        """
        refuse_mixed(values, self.target)
        names = [class_name(value, self.target) for value in values]
        for name in names if self.closed else ():
            if name not in self.classes:
                raise InputRefusedError(
                    f"target {self.target!r}: wanted one of "
                    f"{', '.join(self.classes)}, got {name!r}"
                )
        return names

    def _fitted(self) -> tuple[str, ...]:
        if not self.classes or (self.closed and not self.counts):
            raise ValueError(f"target {self.target!r}: fit the task before using it")
        return self.classes


def _stated(classes: Any, target: str) -> tuple[str, ...]:
    names = tuple(class_name(value, target) for value in listed(classes))
    if names and (len(names) < 2 or len(set(names)) < len(names)):
        raise InputRefusedError(
            f"classes of target {target!r}: wanted two different names or more, got "
            f"{', '.join(names)}"
        )
    return names


def _by_size(name: str) -> tuple[int, str]:
    return (int(name) if name.removeprefix("-").isdecimal() else 0, name)
