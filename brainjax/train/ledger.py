"""What a run costs: speed, share of the peak, compiling, memory, waiting, device hours.

The ledger times the loop from outside and asks nothing of the device. A thread of its
own notes when each step is finished; the loop itself never waits for that.
"""

import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import jax

from brainjax.train.peak import TERA, Peak, find_peak

COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""Events of jax that make up compiling; a program out of the cache counts what it took
to read."""

SPEEDS = (
    "scans_per_second",
    "views_per_second",
    "model_tflop_per_second",
    "mfu",
    "input_wait_share",
)
"""What is said of steady steps; compiling is left out of it."""

TOTALS = ("seconds", "device_hours", "peak_memory_gib")
"""What is said of a run up to now, interrupted calls included."""

GIB = 2**30


class Stretch(NamedTuple):
    """Steps taken one after the other; seconds without compiling, and those waited."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __add__(self, other: tuple) -> "Stretch":
        """Both together."""
        return Stretch(*(a + b for a, b in zip(self, other, strict=True)))


class Ledger:
    """Keeps the costs of one call of a run.

    A stretch begins when the first batch after a log point is asked for and ends at the
    next log point, so that what hooks do at a log point (probes, validation, saving) is
    in no speed. Waiting for input counts while the device has nothing to do.

    Args:
      batch: scans in a step, over all devices.
      views: of a scan in a step.
      flops: counts the model FLOPs of training on a scan; None leaves MFU out.
      before: the last known SPEEDS and TOTALS of an interrupted call.
    """

    def __init__(
        self,
        *,
        batch: int,
        views: int = 1,
        flops: Callable[[], int] | None = None,
        before: Mapping[str, float] | None = None,
    ):
        self.batch, self.views, self.count_flops = batch, views, flops
        self.before = before or {}
        self.devices = jax.device_count()
        self.began = time.perf_counter()
        self.scan_flops, self.peak = 0, Peak(0.0, "")
        self.total, self.compiling = Stretch(), 0.0
        self._finished = _Finished()
        self._in_update, self._thread = False, 0
        self._new_stretch()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, interrupted calls included."""
        return self.before.get("seconds", 0.0) + time.perf_counter() - self.began

    @contextmanager
    def running(self) -> Iterator[None]:
        """While inside, steps are timed; at the door, what they are measured against.

        The last stretch ends with the last step, also where that is no log point.
        """
        if self.count_flops is not None:
            self.scan_flops = self.count_flops()
            self.peak = find_peak(jax.devices())
        self._thread = threading.get_ident()
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        try:
            with self._finished.noted():
                self._new_stretch()
                yield
                self.close_stretch()
        finally:
            jax.monitoring.unregister_event_duration_listener(self._hear)

    def timed(self, update: Callable) -> Callable:
        """Gives an update whose compiling and finishing is noted."""

        def call(state: Any, batch: Any) -> tuple[Any, dict]:
            self._in_update = True
            state, metrics = update(state, batch)
            self._in_update = False
            self._finished.note(metrics)
            self._waits.append([])
            return state, metrics

        return call

    def watched(self, batches: Iterator) -> Iterator:
        """Gives the batches, noting how long each was waited for."""
        return _Watched(batches, self._waiting)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        if self._opened is None:
            self._opened = began
        yield
        self._waits[-1].append((began, time.perf_counter()))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens inside is in no speed; the device must have nothing to do."""
        began = time.perf_counter()
        yield
        if self._opened is not None:
            self._apart += time.perf_counter() - began

    def close_stretch(self) -> Stretch:
        """Ends the stretch, once its last step has finished."""
        if self._opened is None:
            return Stretch()
        finished = self._finished.take()
        seconds = time.perf_counter() - self._opened - self._compiled - self._apart
        idle_since, waited = self._opened, 0.0
        for waits, done in zip(self._waits, finished, strict=False):
            waited += sum(max(0.0, end - max(at, idle_since)) for at, end in waits)
            idle_since = done
        found = Stretch(len(finished), max(seconds, 1e-9), waited)
        self.compiling += self._compiled
        self.total += found
        self._new_stretch()
        return found

    def line(self) -> dict[str, float]:
        """Ends the stretch and gives what it cost, and what the run has cost so far."""
        return {**self.speeds(self.close_stretch()), **self.spent()}

    def speeds(self, stretch: Stretch) -> dict[str, float]:
        """Scans, views and model TFLOP a second, MFU, share of the time waited."""
        if not stretch.steps:
            return {}
        scans = stretch.steps * self.batch / stretch.seconds
        found = {"scans_per_second": scans, "views_per_second": self.views * scans}
        if self.scan_flops:
            flops = scans * self.scan_flops
            found["model_tflop_per_second"] = flops / TERA
            found["mfu"] = flops / self.peak.flops
        found["input_wait_share"] = min(stretch.waited / stretch.seconds, 1.0)
        return {name: _short(value) for name, value in found.items()}

    def spent(self) -> dict[str, float]:
        """Seconds of compiling in this call; peak memory and device hours of the run.

        Device hours are of the wall clock, whatever the devices did.
        """
        here = (time.perf_counter() - self.began) * self.devices / 3600
        peak = max(peak_memory()[0] / GIB, self.before.get("peak_memory_gib", 0.0))
        return {
            "compile_seconds": _short(self.compiling + self._compiled),
            "peak_memory_gib": _short(peak),
            "device_hours": _short(self.before.get("device_hours", 0.0) + here),
        }

    def summary(self) -> dict[str, Any]:
        """The costs of the run, with what they are measured against and whose they are.

        Speeds are of this call, or the last known where it took no step.
        """
        known = {name: self.before[name] for name in SPEEDS if name in self.before}
        return {
            **(self.speeds(self.total) or known),
            **self.spent(),
            "peak_memory_of": peak_memory()[1],
            "scan_gflop": self.scan_flops / 1e9,
            "mfu_of": self.peak.name,
        }

    def basis(self) -> str:
        """What MFU is of, in words; empty where FLOPs are not counted."""
        if not self.scan_flops:
            return ""
        return f"{self.scan_flops / 1e9:.4g} GFLOP a scan; MFU is of {self.peak.name}"

    def _new_stretch(self) -> None:
        self._opened: float | None = None
        self._compiled = self._apart = 0.0
        self._waits: list[list[tuple[float, float]]] = [[]]

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        # Other programs are compiled besides: in hooks, and in threads that read.
        mine = threading.get_ident() == self._thread
        if event in COMPILING and self._in_update and mine:
            self._compiled += duration_secs


class _Watched(Iterator):
    """Batches that are waited for, as a whole or by the micro-batch; it holds none."""

    def __init__(self, batches: Iterator, waiting: Callable):
        self._batches, self._waiting = batches, waiting

    def __next__(self) -> Any:
        with self._waiting():
            batch = next(self._batches)
        if isinstance(batch, dict):
            return batch
        passes = batch.first, batch.second
        return _Streamed(*(_Watched(iter(each), self._waiting) for each in passes))


class _Streamed(NamedTuple):
    """A batch by micro-batches, which a step takes twice, as `streamed.Streamed`."""

    first: Iterator
    second: Iterator


class _Finished:
    """Notes when the device has finished each step, in a thread beside the loop."""

    def __init__(self):
        self._times: list[float] = []
        self._queue: queue.Queue = queue.Queue()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """While inside, there is a thread that does it."""
        thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._queue.put(None)
            # A step that hangs, as when another process is lost, must not hold us.
            thread.join(timeout=10)

    def note(self, metrics: dict) -> None:
        """Notes when these will be there."""
        self._queue.put(metrics)

    def take(self) -> list[float]:
        """Gives the times of the steps noted since, once the last has finished."""
        self._queue.join()
        found, self._times = self._times, []
        return found

    def _work(self) -> None:
        while (metrics := self._queue.get()) is not None:
            with suppress(Exception):  # The loop meets the same error by itself.
                jax.block_until_ready(metrics)
            self._times.append(time.perf_counter())
            self._queue.task_done()
        self._queue.task_done()


def peak_memory() -> tuple[int, str]:
    """Gives the peak in bytes since this process began, and whose it is.

    That of the fullest local device where devices tell, else of the process.
    """
    known = [device.memory_stats() for device in jax.local_devices()]
    used = [stats["peak_bytes_in_use"] for stats in known if stats]
    if used:
        return max(used), "the fullest device"
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "the process"


def _short(value: float) -> float:
    """Four digits: what was measured has no more."""
    return float(f"{value:.4g}")
