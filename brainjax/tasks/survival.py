"""Survival: who is at higher risk, learnt from times and events, censored or not.

A risk ranks subjects. It is no time, and the log relative hazard of the Cox loss is no
probability either.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import log_expit, logit

from brainjax.anatomy import UNITS
from brainjax.errors import InputRefusedError
from brainjax.losses import TIES, Sums, cox, discrete_time, divided
from brainjax.tasks.follow_up import FollowUp, came, follow_up, refuse_twice, time
from brainjax.tasks.labels import chosen, known
from brainjax.tasks.stored import Labels, as_json, from_json, listed, whole

LOSSES = ("cox", "discrete")
"""Partial likelihood of proportional hazards, or a hazard in each interval."""


@dataclass(frozen=True)
class Survival:
    """Time to an event, such as death; `Survival.make` reads a config.

    Attributes:
      target: column of times; event: column of whether the event came then.
      unit: of the times.
      penalty: row of `LOSSES`; ties: as in `losses.cox`.
      bins: intervals of the discrete loss; fewer where fewer event times differ.
      covariates: columns that an evaluation adjusts for; a network never sees them.
      scans, events: of training; 0 before `fit`.
      edges: ends of the intervals, in units; of the discrete loss.
      hazards: share of the subjects at risk in each interval whose event came there.
    """

    target: str
    event: str
    unit: str = "days"
    penalty: str = "cox"
    ties: str = "efron"
    bins: int = 10
    covariates: tuple[str, ...] = ()
    scans: int = 0
    events: int = 0
    edges: tuple[float, ...] = ()
    hazards: tuple[float, ...] = ()

    name: ClassVar[str] = "survival"
    constant_name: ClassVar[str] = "equal risks"

    @classmethod
    def make(
        cls,
        *,
        target: str,
        event: str = "",
        unit: str = "",
        loss: str = "cox",
        ties: str = "efron",
        bins: int = 10,
        covariates: Sequence[str] = (),
    ) -> "Survival":
        """Makes an unfitted task.

        Raises:
          InputRefusedError: no event column, a column in two parts, no such loss or
            ties, fewer than 2 bins.
        """
        what = f"task 'survival' of target {target!r}"
        if not event:
            raise InputRefusedError(f"{what}: wanted the event's column, got {event!r}")
        columns = tuple(str(column) for column in listed(covariates))
        refuse_twice(what, target, event, *columns)
        chosen(f"loss of target {target!r}", loss, LOSSES)
        chosen(f"ties of target {target!r}", ties, TIES)
        unit = unit or UNITS.get(target, "days")
        bins = whole(2, bins, f"bins of target {target!r}")
        return cls(target, event, unit, loss, ties, bins, columns)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that it needs, the target first."""
        return (self.target, self.event, *self.covariates)

    def values(self, labels: Labels) -> list[FollowUp | None]:
        """Gives (time, event) of every scan, None where either is unknown.

        Raises:
          InputRefusedError: a column is missing, a time is negative or no number, an
            event is not 0 or 1, no scan has both.
        """
        for column in self.covariates:
            labels(column)
        return follow_up(labels, self.target, self.event)

    def fit(self, values: Sequence[Any]) -> "Survival":
        """Counts the events; the discrete loss learns its intervals from their times.

        Raises:
          InputRefusedError: fewer than two scans, no event, times that do not differ.
        """
        pairs = [self._pair(value) for value in known(values)]
        if len(pairs) < 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted at least 2 training scans with a time "
                f"and an event, got {len(pairs)} of {len(values)}"
            )
        times, events = (np.array(column) for column in zip(*pairs, strict=True))
        if not events.any():
            raise InputRefusedError(
                f"target {self.target!r}: wanted training scans whose event "
                f"{self.event!r} came, got {len(pairs)} censored"
            )
        if times.min() == times.max():
            raise InputRefusedError(
                f"target {self.target!r}: wanted training times that differ, got "
                f"{len(times)} times {times[0]:g}"
            )
        task = replace(self, scans=len(pairs), events=int(events.sum()))
        return task._with_intervals(times, events) if self.discrete else task

    @property
    def discrete(self) -> bool:
        """Says whether outputs are hazards of intervals."""
        return self.penalty == "discrete"

    @property
    def outputs(self) -> int:
        """Width of the network's head."""
        return len(self._fitted().edges) if self.discrete else 1

    @property
    def constant(self) -> Float[np.ndarray, " k"]:
        """The output that looks at no scan: everybody has the training hazard."""
        if not self._fitted().discrete:
            return np.zeros(1, np.float32)
        return logit(np.clip(self.hazards, 1e-4, 1 - 1e-4)).astype(np.float32)

    def encode(
        self, values: Sequence[Any]
    ) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Gives time and event (0, 1), and weights that are 0 where they are unknown.

        Raises:
          InputRefusedError: a value is no pair of a time and an event.
        """
        pairs = [(0.0, False) if v is None else self._pair(v) for v in values]
        weights = np.array([value is not None for value in values], np.float32)
        return np.array(pairs, np.float32).reshape(-1, 2), weights

    def loss(
        self,
        outputs: Float[Array, "b k"],
        targets: Float[Array, "b 2"],
        weights: Float[Array, " b"],
    ) -> Float[Array, ""]:
        """Negative log likelihood of an event (cox) or a scan (discrete), in nats.

        Cox compares the subjects of one batch; 0 where none of them has the event.
        """
        return divided(self._sums(outputs, targets[:, 0], targets[:, 1], weights))

    def _sums(self, outputs, times, events, weights) -> Sums:
        if self.discrete:
            edges = jnp.asarray(self.edges, outputs.dtype)
            return discrete_time(outputs, times, events, edges, weights)
        return cox(outputs[:, 0], times, events, weights, ties=self.ties)

    def risk(self, outputs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Gives a number that is higher the earlier the event is expected, float64.

        Cox: the log hazard relative to an average one. Discrete: the cumulative hazard
        summed over the intervals (mortality, Ishwaran 2008).
        """
        if not self._fitted().discrete:
            return np.asarray(outputs, np.float64)[:, 0]
        return -_log_survival(outputs).sum(axis=1)

    decode = risk
    score_higher = risk

    def survival(self, outputs: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Gives the probability of no event by each of `edges`, of the discrete loss.

        Raises:
          InputRefusedError: the Cox loss, which knows no probabilities.
        """
        if not self._fitted().discrete:
            raise InputRefusedError(
                f"target {self.target!r}: wanted loss 'discrete' for probabilities of "
                f"survival, got {self.penalty!r}"
            )
        return np.exp(_log_survival(outputs))

    def columns(self, outputs: Float[np.ndarray, "n k"]) -> dict[str, list[Any]]:
        """Gives `prediction`, the risk, and of the discrete loss `survival_<time>`."""
        made = {"prediction": self.risk(outputs).tolist()}
        if self.discrete:
            for edge, column in zip(self.edges, self.survival(outputs).T, strict=True):
                made[f"survival_{edge:.10g}"] = column.tolist()
        return made

    def to_dict(self) -> dict[str, Any]:
        """Gives JSON values that `from_dict` reads back."""
        return as_json(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Survival":
        """Reads what `to_dict` gave."""
        made = from_json(cls, given)
        chosen(f"loss of target {made.target!r}", made.penalty, LOSSES)
        chosen(f"ties of target {made.target!r}", made.ties, TIES)
        return made

    def _pair(self, value: Any) -> FollowUp:
        if not isinstance(value, tuple) or len(value) != 2:
            raise InputRefusedError(
                f"target {self.target!r}: wanted a time and an event, got {value!r}"
            )
        return time(value[0], self.target), came(value[1], self.event)

    def _with_intervals(self, times: np.ndarray, events: np.ndarray) -> "Survival":
        """Cuts time at quantiles of the event times, which are events themselves."""
        shares = np.arange(1, self.bins + 1) / self.bins
        edges = np.unique(np.quantile(times[events], shares, method="inverted_cdf"))
        starts = np.concatenate([[-np.inf], edges[:-1]])
        # At risk: seen to die there, or to survive the interval as a whole.
        died = events & (starts[:, None] < times) & (times <= edges[:, None])
        survived = np.where(events, edges[:, None] < times, edges[:, None] <= times)
        hazards = died.sum(1) / np.maximum((died | survived).sum(1), 1)
        return replace(
            self, edges=tuple(edges.tolist()), hazards=tuple(hazards.tolist())
        )

    def _fitted(self) -> "Survival":
        if not self.scans:
            raise ValueError(f"target {self.target!r}: fit the task before using it")
        return self


def _log_survival(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return np.cumsum(log_expit(-np.asarray(logits, np.float64)), axis=1)
