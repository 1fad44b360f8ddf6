"""Losses of follow-up: how long a subject was seen, and whether the event came then.

A subject of weight 0 is not there: neither its event nor its time at risk counts, and
its entries may be NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from brainjax.losses.supervised import Sums, masked_sums

TIES = ("efron", "breslow")
"""How subjects whose events came at one time share a risk set."""

_NOBODY = -1e37
"""Logarithm of a hazard that is not there; finite, so that differences are too."""


def cox(
    outputs: Float[Array, " n"],
    times: Num[Array, " n"],
    events: Num[Array, " n"] | Bool[Array, " n"],
    weights: Float[Array, " n"],
    *,
    ties: str = "efron",
) -> Sums:
    """Negative log partial likelihood of proportional hazards (Cox 1972).

    Sorted by time, every risk set is a prefix, whose log-sum-exp is cumulative: O(n log
    n) in time. The risk sets are those of the subjects given, a batch in training.

    Args:
      outputs: log relative hazards; a constant added to all changes nothing.
      times: of the event or of the last look, in any unit.
      events: 1 where the event came at that time, 0 where it had not (censored, and at
        risk until then, that time included).
      weights: of the subjects, not negative.
      ties: "efron" (1977) or "breslow" (1974); the same where no two events tie. With
        weights, tied events of efron's form share their mean weight.

    Returns:
      Sum over events, in nats, and the events' sum of weights; 0 without an event.
    """
    row = _latest_first(outputs, times, events, weights)
    at_risk = _last_of_group(cumulative(row.hazards), row.groups)
    each = row.weights
    if ties == "efron":
        at_risk, each = _without_earlier(at_risk, row)
    values = jnp.where(row.events, each * at_risk - row.weights * row.outputs, 0.0)
    return Sums(jnp.sum(values), jnp.sum(jnp.where(row.events, row.weights, 0.0)))


class _Row(NamedTuple):
    """Subjects from the last seen to the first; equal times are one group.

    hazards: log of weight x relative hazard; events: those that count.
    """

    outputs: Float[Array, " n"]
    hazards: Float[Array, " n"]
    weights: Float[Array, " n"]
    events: Bool[Array, " n"]
    groups: Int[Array, " n"]


def _latest_first(outputs, times, events, weights) -> _Row:
    there = weights > 0
    times = jnp.where(there, times, 0)
    # Hazards are relative: with the largest at 0 no digits go into their common size.
    top = jnp.max(jnp.where(there, outputs, -jnp.inf), initial=-jnp.inf)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    outputs = jnp.where(there, outputs, 0.0) - jax.lax.stop_gradient(top)
    weights = jnp.where(there, weights, 0).astype(outputs.dtype)
    logs = jnp.log(jnp.where(there, weights, 1.0))
    hazards = jnp.where(there, outputs + logs, _NOBODY)
    order = jnp.argsort(-times)
    later = times[order]
    groups = jnp.cumsum(jnp.diff(later, prepend=later[:1]) != 0)
    events = (events > 0) & there
    return _Row(outputs[order], hazards[order], weights[order], events[order], groups)


def _last_of_group(values, groups):
    """Gives all subjects of a time what the last of them has: the whole risk set."""
    n = len(values)
    last = jax.ops.segment_max(jnp.arange(n), groups, n, indices_are_sorted=True)
    return values[last[groups]]


def _without_earlier(at_risk, row: _Row):
    """Takes out of each event's risk set its share of the tied events before it.

    Of d tied events the l-th, from 0, leaves l/d of their summed hazard out.

    Returns:
      log risk sets, and the mean weight of the events tied with each.
    """
    count, weight, hazard, before = _of_ties(row)
    rank = jnp.cumsum(row.events) - 1 - before
    share = jnp.where(row.events, rank, 0) / count
    part = hazard - at_risk
    # The events are part of their risk set: above 0 by rounding only.
    part = part - jax.lax.stop_gradient(jnp.maximum(part, 0.0))
    left = jnp.log1p(-share.astype(part.dtype) * jnp.exp(part))
    return at_risk + left, weight / count


def _of_ties(row: _Row):
    """Gives, of each subject's time: events (1 where none), weight, log hazard, and
    how many events stand before its group."""
    n = len(row.groups)

    def over(reduce, values):
        return reduce(values, row.groups, n, indices_are_sorted=True)[row.groups]

    counted = row.events.astype(row.outputs.dtype)
    count = jnp.maximum(over(jax.ops.segment_sum, counted), 1.0)
    weight = over(jax.ops.segment_sum, counted * row.weights)
    hazards = jnp.where(row.events, row.hazards, _NOBODY)
    top = jax.lax.stop_gradient(over(jax.ops.segment_max, hazards))
    hazard = top + jnp.log(over(jax.ops.segment_sum, jnp.exp(hazards - top)))
    before = over(jax.ops.segment_min, jnp.cumsum(row.events) - row.events)
    return count, weight, hazard, before


@jax.custom_vjp
def cumulative(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """Gives the log-sum-exp of values[: i + 1] at every i.

    log n passes of one small loop, and a slope of the same kind: XLA takes seconds to
    compile the slope of `jax.lax.cumlogsumexp`.
    """
    places = jnp.arange(len(values))

    def double(k, sums):
        # sums[i] holds the last 2**k values up to i; now twice as many.
        moved = jnp.roll(sums, 2**k)
        return jnp.where(places >= 2**k, jnp.logaddexp(sums, moved), sums)

    return jax.lax.fori_loop(0, max(len(values) - 1, 0).bit_length(), double, values)


def _cumulative_forward(values):
    sums = cumulative(values)
    return sums, (values, sums)


def _cumulative_backward(kept, slopes):
    """Sums slopes[j] exp(values[i] - sums[j]) over j >= i, in logarithms, by sign."""
    values, sums = kept
    total = jnp.zeros_like(values)
    for sign in (1, -1):
        sizes = sign * slopes
        logs = jnp.log(jnp.where(sizes > 0, sizes, 1.0)) - sums
        logs = jnp.where(sizes > 0, logs, _NOBODY)
        total += sign * jnp.exp(values + cumulative(logs[::-1])[::-1])
    return (total,)


cumulative.defvjp(_cumulative_forward, _cumulative_backward)


def discrete_time(
    logits: Float[Array, "n k"],
    times: Num[Array, " n"],
    events: Num[Array, " n"] | Bool[Array, " n"],
    edges: Float[Array, " k"],
    weights: Float[Array, " n"],
) -> Sums:
    """Negative log likelihood of follow-up cut into k intervals (Gensheimer 2019).

    logits[:, j] is the log odds of the event in the interval that ends at edges[j],
    given that it had not come before. A censored subject counts for the intervals that
    it was seen to survive as a whole; an event after the last edge is survival of all.

    Returns:
      Sum over subjects, in nats, and their sum of weights.
    """
    there = weights > 0
    times = jnp.where(there, times, 0)[:, None]
    events = ((events > 0) & there)[:, None]
    before = jnp.concatenate([jnp.full(1, -jnp.inf), edges[:-1]])
    died = events & (before < times) & (times <= edges)
    survived = jnp.where(events, edges < times, edges <= times)
    logits = jnp.where(there[:, None], logits, 0.0)
    nats = jnp.where(survived, jax.nn.softplus(logits), 0.0)
    nats += jnp.where(died, jax.nn.softplus(-logits), 0.0)
    return masked_sums(nats.sum(1), weights)
