"""Kaplan-Meier curves, the log-rank test and Cox regression on a few columns."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import chdtrc, ndtr, ndtri

Z = float(ndtri(0.975))
STEPS = 50
LARGEST = 12.0
"""Log hazard ratio, of one standard deviation, at which a fit has run away."""


class Curve(NamedTuple):
    """Kaplan-Meier: the share without an event just after each time, from time 0.

    Attributes:
      time: 0, and every time seen.
      survival, low, high: with a 95 % interval (log(-log), Greenwood's variance).
      at_risk: subjects still seen at each time.
    """

    time: Float[np.ndarray, " t"]
    survival: Float[np.ndarray, " t"]
    low: Float[np.ndarray, " t"]
    high: Float[np.ndarray, " t"]
    at_risk: Int[np.ndarray, " t"]


class LogRank(NamedTuple):
    """Test of equal hazards in groups; p is NaN with fewer than two groups."""

    statistic: float
    degrees: int
    p: float


class Ratio(NamedTuple):
    """A hazard ratio with Wald's 95 % interval; NaN where it is undefined."""

    value: float
    low: float
    high: float
    p: float
    n: int
    events: int


def kaplan_meier(
    times: Float[np.ndarray, " n"], events: Bool[np.ndarray, " n"]
) -> Curve:
    """Estimates survival of one group; events come before censorings of one time."""
    unique, place = np.unique(times, return_inverse=True)
    died = np.bincount(place, events, minlength=len(unique))
    at_risk = len(times) - np.searchsorted(np.sort(times), unique)
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.cumprod(1 - died / at_risk)
        variance = np.cumsum(died / (at_risk * (at_risk - died)))
        log = np.log(survival)
        width = Z * np.sqrt(variance) / log
        low = np.exp(-np.exp(np.log(-log) - width))
        high = np.exp(-np.exp(np.log(-log) + width))
    certain = survival == 1
    low, high = np.where(certain, 1, low), np.where(certain, 1, high)
    start = np.ones(1)
    return Curve(
        np.concatenate([np.zeros(1), unique]),
        np.concatenate([start, survival]),
        np.concatenate([start, low]),
        np.concatenate([start, high]),
        np.concatenate([[len(times)], at_risk]),
    )


def log_rank(
    times: Float[np.ndarray, " n"],
    events: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
) -> LogRank:
    """Tests whether groups have one hazard (Mantel's log-rank)."""
    names = np.unique(groups)
    degrees = len(names) - 1
    if degrees < 1 or not np.any(events):
        return LogRank(np.nan, max(degrees, 0), np.nan)
    members = groups[:, None] == names
    moments = np.unique(times[events])
    at_risk = (times >= moments[:, None]).astype(float) @ members
    died = ((times == moments[:, None]) & events).astype(float) @ members
    n, d = at_risk.sum(1), died.sum(1)
    share = at_risk / n[:, None]
    excess = (died - d[:, None] * share).sum(0)
    scale = d * (n - d) / np.maximum(n - 1, 1)
    spread = np.diag(scale @ share) - (share * scale[:, None]).T @ share
    # The groups' excesses add up to 0, so one of them says nothing new.
    excess, spread = excess[1:], spread[1:, 1:]
    if np.linalg.matrix_rank(spread) < degrees:
        return LogRank(np.nan, degrees, np.nan)
    statistic = float(excess @ np.linalg.solve(spread, excess))
    return LogRank(statistic, degrees, float(chdtrc(degrees, statistic)))


def hazard_ratio(
    group: Bool[np.ndarray, " n"],
    times: Float[np.ndarray, " n"],
    events: Bool[np.ndarray, " n"],
    covariates: Float[np.ndarray, "n p"] | None = None,
) -> Ratio:
    """Hazard of a group in parts of the others', by Cox regression (Efron's ties).

    Undefined where the fit runs away (a group without events, a covariate that tells
    all) or a column says nothing that the others do not.
    """
    columns = np.asarray(group, np.float64)[:, None]
    if covariates is not None:
        columns = np.hstack([columns, covariates])
    events = np.asarray(events, bool)
    unknown = Ratio(np.nan, np.nan, np.nan, np.nan, len(times), int(events.sum()))
    fitted = cox_fit(columns, np.asarray(times, np.float64), events)
    if fitted is None:
        return unknown
    log, error = fitted[0][0], np.sqrt(fitted[1][0, 0])
    low, high = np.exp(log - Z * error), np.exp(log + Z * error)
    p = 2 * ndtr(-abs(log) / error)
    value = float(np.exp(log))
    return unknown._replace(value=value, low=float(low), high=float(high), p=float(p))


def cox_fit(
    columns: Float[np.ndarray, "n p"],
    times: Float[np.ndarray, " n"],
    events: Bool[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p p"]] | None:
    """Gives log hazard ratios and their covariance by Newton's method; None if none.

    Ties of events are Efron's.
    """
    if len(times) < 2 or not events.any() or not np.ptp(columns, axis=0).all():
        return None
    scale = columns.std(0)
    scaled = (columns - columns.mean(0)) / scale
    order = np.argsort(-times, kind="stable")
    scaled, times, events = scaled[order], times[order], events[order]
    beta = np.zeros(scaled.shape[1])
    value, slope, curvature = _likelihood(scaled, times, events, beta)
    for _ in range(STEPS):
        if np.linalg.cond(curvature) > 1e10:
            return None
        step = np.linalg.solve(curvature, slope)
        for _ in range(30):  # a full step may overshoot
            found = _likelihood(scaled, times, events, beta + step)
            if found[0] >= value - 1e-12:
                break
            step = step / 2
        beta = beta + step
        value, slope, curvature = found
        if np.abs(beta).max() > LARGEST:
            return None
        if np.abs(step).max() < 1e-10:
            covariance = np.linalg.inv(curvature)
            return beta / scale, covariance / np.outer(scale, scale)
    return None


def _likelihood(columns, times, events, beta) -> tuple[float, np.ndarray, np.ndarray]:
    """Partial log likelihood, its slope and its negative curvature; times fall."""
    hazard = np.exp(np.clip(columns @ beta, -500, 500))
    weighted = columns * hazard[:, None]
    squares = np.einsum("ij,ik->ijk", weighted, columns)
    sums = [np.cumsum(part, axis=0) for part in (hazard, weighted, squares)]
    value, p = 0.0, len(beta)
    slope, curvature = np.zeros(p), np.zeros((p, p))
    _, starts = np.unique(-times, return_index=True)
    for start, end in zip(starts, [*starts[1:], len(times)], strict=True):
        rows = np.flatnonzero(events[start:end]) + start
        if not len(rows):
            continue
        tied = [part[rows].sum(0) for part in (hazard, weighted, squares)]
        value += float(columns[rows].sum(0) @ beta)
        slope += columns[rows].sum(0)
        for share in np.arange(len(rows)) / len(rows):
            zero, one, two = (
                s[end - 1] - share * t for s, t in zip(sums, tied, strict=True)
            )
            mean = one / zero
            value -= float(np.log(zero))
            slope -= mean
            curvature += two / zero - np.outer(mean, mean)
    return value, slope, curvature
