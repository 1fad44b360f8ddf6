"""The moving average of a run's parameters: what is measured, and what answers.

Weights averaged over the last steps answer better than those of any one of them (Polyak
and Juditsky 1992). They are part of the state, so a resumed run has the same.
"""

import jax
import jax.numpy as jnp

from brainjax.train.state import Blueprint, State

EMA = "ema"
"""Its key in the state, and in a checkpoint."""


def with_ema(blueprint: Blueprint) -> Blueprint:
    """Gives a blueprint of states that hold an average too, at first the parameters."""

    def initialise() -> State:
        return start_ema(blueprint.initialise())

    both = [
        {**tree, EMA: tree["params"]}
        for tree in (blueprint.abstract, blueprint.shardings)
    ]
    return blueprint._replace(
        abstract=both[0], shardings=both[1], initialise=initialise
    )


def start_ema(state: State) -> State:
    """Gives the state with an average that is (a copy of) its parameters."""
    return {**state, EMA: jax.tree.map(jnp.copy, state["params"])}


def move_ema(after: State, before: State, decay: float) -> State:
    """Gives the state after a step, its average moved unless the step was skipped.

    Early on it moves faster, by (1 + n) / (10 + n) of step n, not to keep the start.
    """
    count = (after["step"] - after["skipped"]).astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + count) / (10 + count))
    share = jnp.where(after["skipped"] > before["skipped"], 0.0, share)
    # Of what stands still the difference is exactly 0.
    moved = jax.tree.map(
        lambda mean, now: mean + share * (now - mean), before[EMA], after["params"]
    )
    return {**after, EMA: moved}
