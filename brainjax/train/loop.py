"""The training loop. What else should happen at a step is a hook."""

from collections.abc import Callable, Iterator, Sequence

import jax

from brainjax.train.state import State

Hook = Callable[[int, State, dict], None]


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
    for step in range(int(state["step"]), steps):
        with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
            state, metrics = update(state, next(batches))
        for hook in hooks:
            hook(step + 1, state, metrics)
    return state
