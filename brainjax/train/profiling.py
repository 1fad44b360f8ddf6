"""A trace of a few steps, for TensorBoard, xprof or Perfetto to open."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import jax

from brainjax.errors import InputRefusedError
from brainjax.train.state import State


class Profile:
    """Traces the steps from a first to a last one, both included.

    Only whole steps are in the trace: the one before has finished when it begins. What
    hooks do between the steps is in it too. A run resumed amid the steps traces those
    that are left.

    Args:
      folder: where the trace goes.
      steps: numbers of the first and of the last step, from 1; empty for no trace.
      start: steps taken before.
      total: steps of the run.
      apart: within it a trace is begun and written, which may take a while.
      writing: False traces nothing; of several processes, one does.
    """

    def __init__(
        self,
        folder: Path,
        steps: Sequence[int],
        *,
        start: int,
        total: int,
        apart: Callable[[], AbstractContextManager] = nullcontext,
        writing: bool = True,
    ):
        if steps and not _is_stretch(steps, total):
            raise InputRefusedError(
                "config.profile_steps: wanted the first and the last step, such as "
                f"10,12, of {total}, got {','.join(map(str, steps))}"
            )
        first, last = steps if steps and writing else (0, 0)
        self.folder, self.last = folder, last
        self.first = max(first, start + 1)
        self.start, self.apart, self.tracing = start, apart, False

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Traces from the very first step on, if asked to; ends a trace cut short."""
        if self._due(self.start):
            self._begin()
        try:
            yield
        finally:
            self._end()

    def after_step(self, step: int, state: State, metrics: dict) -> None:
        """The first of the hooks of a step: ends the trace after the last one."""
        if self.tracing and step == self.last:
            jax.block_until_ready(state)
            self._end()

    def before_next(self, step: int, state: State, metrics: dict) -> None:
        """The last of the hooks of a step: begins the trace before the first one."""
        if self._due(step):
            jax.block_until_ready(state)
            self._begin()

    def _due(self, step: int) -> bool:
        return step + 1 == self.first <= self.last

    def _begin(self) -> None:
        options = jax.profiler.ProfileOptions()
        # Python's own calls would be most of the trace, and slow what is traced.
        options.python_tracer_level = 0
        with self.apart():
            jax.profiler.start_trace(
                self.folder, create_perfetto_trace=True, profiler_options=options
            )
        self.tracing = True

    def _end(self) -> None:
        if self.tracing:
            self.tracing = False
            with self.apart():
                jax.profiler.stop_trace()


def _is_stretch(steps: Sequence[int], total: int) -> bool:
    whole = all(type(step) is int for step in steps)
    return len(steps) == 2 and whole and 1 <= steps[0] <= steps[1] <= total
