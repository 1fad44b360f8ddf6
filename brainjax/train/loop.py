"""The training loop. What else should happen at a step is a hook."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from brainjax.train.state import State

Hook = Callable[[int, State, dict], None]

IN_FLIGHT = 2
"""Programs that an accelerator has yet to finish while the host prepares another."""


class InFlight:
    """Bounds how far the host runs ahead of the device, whose queue holds batches.

    It waits for what was started two programs ago, so that the device always has one
    more to do: the queue never runs dry and never fills the memory. A CPU would run
    two programs side by side, and what processes say to each other in one would be
    taken for the other's: there it waits for each.
    """

    def __init__(self):
        self._started: deque[Any] = deque()
        self._most = 0 if jax.default_backend() == "cpu" else IN_FLIGHT

    def add(self, outputs: Any) -> None:
        """Notes a program by outputs that are not donated; waits for an older one."""
        self._started.append(outputs)
        if len(self._started) > self._most:
            jax.block_until_ready(self._started.popleft())


def train(
    state: State,
    update: Callable,
    batches: Iterator,
    *,
    steps: int,
    hooks: Sequence[Hook],
) -> State:
    """Steps from where the state stands to `steps`.

    Hooks get the number of finished steps, the state (valid until the next step, which
    reuses its memory) and the metrics, still on the device.
    """
    started = InFlight()
    for step in range(int(state["step"]), steps):
        with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
            state, metrics = update(state, next(batches))
        started.add(metrics)
        for hook in hooks:
            hook(step + 1, state, metrics)
    return state
