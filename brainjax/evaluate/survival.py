"""How well a risk ranks subjects whose event may be censored.

A risk is a rank. It is no time to the event, and a risk of 2 is not twice a risk of 1.
Every number here is about groups of subjects like those tested, never about one person.
"""

import numpy as np
from jaxtyping import Bool, Float

from brainjax.evaluate.metrics import SAMPLES, Metric, Subjects, Weights, measure

Times = Float[np.ndarray, " n"]
Events = Bool[np.ndarray, " n"]
Risks = Float[np.ndarray, " n"]

AUC_SHARES = (0.25, 0.5, 0.75)
"""Share of the events that have happened by the times of the time-dependent AUC."""


def harrell(
    times: Times,
    events: Events,
    risks: Risks,
    subjects: Subjects,
    *,
    samples: int = SAMPLES,
) -> Metric:
    """Harrell's C: how often, of two subjects, the one with the earlier event has the
    higher risk; a tie of risks is half.

    Pairs count where it is known whose event came first: one had it before the other
    was last seen, or at that time. Undefined without such a pair.
    """
    pairs = _Pairs(times, events, risks)
    known = pairs.usable(samples)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        return pairs.share(weights, weights)

    return measure(statistic if known else _nothing, subjects, samples)


def uno(
    times: Times,
    events: Events,
    risks: Risks,
    subjects: Subjects,
    *,
    samples: int = SAMPLES,
) -> Metric:
    """Uno's C: Harrell's, with pairs weighted so that censoring does not shift it.

    The weights are of the censoring in the test set itself. Undefined without a pair,
    and where an event comes when all others are censored (their weight is infinite).
    """
    pairs = _Pairs(times, events, risks)
    order = _Order(times, events)

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        inverse = np.where(events, 1 / order.uncensored(weights), 0)
        return pairs.share(weights * inverse**2, weights)

    return measure(statistic if pairs.usable(samples) else _nothing, subjects, samples)


def time_auc(
    times: Times,
    events: Events,
    risks: Risks,
    subjects: Subjects,
    *,
    at: float,
    samples: int = SAMPLES,
) -> Metric:
    """AUC of telling those whose event came by a time from those seen after it.

    Cumulative cases, dynamic controls, cases weighted by the inverse probability of not
    being censored (Uno et al. 2007). Undefined without cases or without controls.
    """
    order = _Order(times, events)
    case, control = events & (times <= at), times > at
    above = _above(risks[case], risks[control])

    def statistic(weights: Weights) -> Float[np.ndarray, " r"]:
        cases = (weights / order.uncensored(weights))[:, case]
        controls = weights[:, control]
        won = np.einsum("rc,rc->r", cases @ above, controls)
        total = cases.sum(1) * controls.sum(1)
        return won / np.where(total > 0, total, np.nan)

    finite = np.isfinite(risks).all()
    return measure(statistic if finite else _nothing, subjects, samples)


def auc_times(times: Times, events: Events) -> list[float]:
    """Gives the times by which a quarter, a half, three quarters of the events came."""
    found = times[events]
    if not len(found):
        return [float("nan")] * len(AUC_SHARES)
    return np.quantile(found, AUC_SHARES, method="inverted_cdf").tolist()


class _Pairs:
    """Which of two subjects had the event first, and who had the higher risk."""

    def __init__(self, times: Times, events: Events, risks: Risks):
        self.rows = np.flatnonzero(events)
        first, last = times[self.rows, None], times[None, :]
        later = (first < last) | ((first == last) & ~events)
        self.known = later.astype(np.float64)
        self.won = np.where(later, _above(risks[self.rows], risks), 0)
        self.finite = bool(np.isfinite(risks).all())

    def usable(self, samples: int) -> bool:
        """Says whether there is anything to count."""
        return self.finite and bool(self.known.any())

    def share(self, firsts: Weights, others: Weights) -> Float[np.ndarray, " r"]:
        """Weighted share of the known pairs in which the earlier has the higher risk.

        A subject that was drawn twice is no pair of its own: its times are equal.
        """
        firsts = firsts[:, self.rows]
        pairs = np.einsum("re,re->r", others @ self.known.T, firsts)
        won = np.einsum("re,re->r", others @ self.won.T, firsts)
        return won / np.where(pairs > 0, pairs, np.nan)


class _Order:
    """Subjects in the order of their times, equal times in one block."""

    def __init__(self, times: Times, events: Events):
        self.unique, self.block = np.unique(times, return_inverse=True)
        members = self.block[:, None] == np.arange(len(self.unique))
        self.event = (members & events[:, None]).astype(np.float64)
        self.censored = (members & ~events[:, None]).astype(np.float64)

    def uncensored(self, weights: Weights) -> Float[np.ndarray, "r n"]:
        """Probability of not being censored by each subject's time, Kaplan-Meier.

        Of equal times, events come before censorings.
        """
        event, censored = weights @ self.event, weights @ self.censored
        here = event + censored
        from_here = np.cumsum(here[:, ::-1], axis=1)[:, ::-1]
        at_risk = from_here - event
        lost = np.where(censored > 0, censored / np.maximum(at_risk, 1e-300), 0)
        return np.cumprod(1 - lost, axis=1)[:, self.block]


def _above(ones: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "n m"]:
    """1 where one is greater, half where it is equal."""
    greater = ones[:, None] > others[None, :]
    return greater + 0.5 * (ones[:, None] == others[None, :])


def _nothing(weights: Weights) -> Float[np.ndarray, " r"]:
    return np.full(len(weights), np.nan)
