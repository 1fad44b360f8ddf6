"""Many tasks, one at a time in each worker: here, in processes, or through Dask."""

import logging
import queue
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.children import Child, ChildDiedError, ChildLateError
from brainjax.records.memory import fit_workers
from brainjax.records.serving import describe_error

log = logging.getLogger("brainjax")

Setup = Callable[[], None] | None


class Outcome(NamedTuple):
    """What became of a task: its result, or why there is none.

    killed: from outside, so that another try may do.
    """

    result: Any
    error: str | None = None
    killed: bool = False


class Way(NamedTuple):
    """Where the tasks are done.

    Attributes:
      workers: processes of this machine, or jobs of a cluster.
      limit_s: a task that takes longer fails alone.
      memory_bytes: what a worker needs; fewer work where the memory is too small.
      scheduler: address of a Dask scheduler that runs, as "tcp://host:8786".
      cluster: a cluster to start Dask workers on, as "slurm" or
        "slurm:queue=short,jobs=20" (see cluster.py).
    """

    workers: int = 1
    limit_s: float | None = None
    memory_bytes: int | None = None
    scheduler: str | None = None
    cluster: str | None = None


def check_way(way: Way) -> None:
    """Refuses words that name no scheduler and no cluster, before any work.

    Raises:
      InputRefusedError: says what such words look like.
    """
    if way.scheduler and not re.fullmatch(r"[a-z]+://.+:\d+", way.scheduler):
        raise InputRefusedError(
            f"scheduler: wanted an address such as tcp://host:8786, got {way.scheduler}"
        )
    if way.cluster and way.cluster.partition(":")[0] != "slurm":
        raise InputRefusedError(
            f"cluster: wanted slurm or slurm:name=value,..., got {way.cluster}"
        )


Done = Callable[[int, Outcome], None]


def run_tasks(
    work: Callable[[Any], Any],
    tasks: Sequence,
    way: Way,
    done: Done,
    *,
    setup: Setup = None,
    shared: Path | None = None,
) -> None:
    """Does `work(task)` for each and tells `done(position, outcome)` of each, once.

    In any order, and in the calling thread. A task that raises, ends its process or is
    late fails alone. One whose process was killed is tried once more when the others
    are through: it may have been killed for its neighbour's memory.

    Args:
      work: a function that can be pickled, and so is its result; sent once a worker.
      tasks: one argument each, small.
      way: one worker without a limit works in this process.
      done: told of each outcome; what it raises ends the run.
      setup: called once in every process that works, before any task.
      shared: a folder that every worker must see, of whichever machine.

    Raises:
      InputRefusedError: no process starts, or Dask cannot be used; one line.
    """
    if way.scheduler or way.cluster:
        from brainjax.records.cluster import run_on_dask

        run_on_dask(work, tasks, way, done, setup=setup, shared=shared)
        return
    workers = min(way.workers, len(tasks))
    if way.memory_bytes:
        workers = fit_workers(workers, way.memory_bytes)
    if workers == 1 and way.limit_s is None:
        _run_here(work, tasks, done, setup)
    elif tasks:
        _run_in_children(work, tasks, workers, way.limit_s, done, setup)


def attempt(child: Child, task: Any, limit_s: float | None) -> Outcome:
    """Does one task in a Child made with `Work` as its setup; never raises."""
    try:
        return Outcome(child.run(_do, task, limit_s=limit_s))
    except ChildLateError as error:
        return Outcome(None, f"got {error}")
    except ChildDiedError as error:
        killed = error.code in (-signal.SIGKILL, -signal.SIGTERM)
        return Outcome(None, f"wanted a volume, got {error}", killed)
    except Exception as error:
        return Outcome(None, describe_error(error))


class Work(NamedTuple):
    """What a Child does, as its setup: it comes once, not with every task."""

    work: Callable[[Any], Any]
    setup: Setup = None

    def __call__(self) -> None:
        global _work
        _work = self.work
        if self.setup is not None:
            self.setup()


_work: Callable[[Any], Any] | None = None


def _do(task: Any) -> Any:
    assert _work is not None
    return _work(task)


def _run_here(work: Callable, tasks: Sequence, done: Done, setup: Setup) -> None:
    if setup is not None:
        setup()
    for position, task in enumerate(tasks):
        try:
            outcome = Outcome(work(task))
        except Exception as error:
            outcome = Outcome(None, describe_error(error))
        done(position, outcome)


def _run_in_children(
    work: Callable,
    tasks: Sequence,
    workers: int,
    limit_s: float | None,
    done: Done,
    setup: Setup,
) -> None:
    killed = []

    def tell(position: int, outcome: Outcome) -> None:
        if outcome.killed:
            killed.append(position)
        else:
            done(position, outcome)

    crew = Crew(Work(work, setup), tasks, limit_s)
    crew.run(range(len(tasks)), workers, tell)
    crew.run(sorted(killed), 1, done)


class Crew:
    """Threads that each keep a Child busy."""

    def __init__(self, work: Work, tasks: Sequence, limit_s: float | None):
        self._work, self._tasks, self._limit_s = work, tasks, limit_s

    def run(self, positions: Sequence[int], workers: int, tell: Done) -> None:
        """Does some of the tasks; ends the processes however this ends."""
        shift = _Shift(iter(positions))
        hands = [
            threading.Thread(target=self._labour, args=(shift,), daemon=True)
            for _ in range(min(workers, len(positions)))
        ]
        try:
            for hand in hands:
                hand.start()
            for _ in positions:
                answer = shift.answers.get()
                if isinstance(answer, BaseException):
                    raise answer
                tell(*answer)
        finally:
            shift.stop()
            for hand in hands:
                hand.join()

    def _labour(self, shift: "_Shift") -> None:
        try:
            with shift:
                while (position := shift.next_position()) is not None:
                    child = shift.child_for(self._work)
                    outcome = attempt(child, self._tasks[position], self._limit_s)
                    shift.answers.put((position, outcome))
        except BaseException as error:  # raised again where the caller listens
            shift.answers.put(error)


class _Shift:
    """What the threads of one run share: positions left, answers, living children."""

    def __init__(self, positions: Iterator[int]):
        self.answers: queue.SimpleQueue = queue.SimpleQueue()
        self._positions = positions
        self._children: dict[int, Child] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def next_position(self) -> int | None:
        """Gives a position that nobody has; None where none is left."""
        with self._lock:
            return None if self._stopped else next(self._positions, None)

    def child_for(self, work: Work) -> Child:
        """Gives this thread's Child, a new one where it has none that lives."""
        me = threading.get_ident()
        child = self._children.get(me)
        if child is None or not child.alive:
            if child is not None:
                child.close()
            child = Child(work)
            with self._lock:
                self._children[me] = child
                if self._stopped:
                    child.kill()
        return child

    def stop(self) -> None:
        """Ends whatever is still being done."""
        with self._lock:
            self._stopped = True
            for child in self._children.values():
                child.kill()

    def __enter__(self) -> "_Shift":
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            child = self._children.pop(threading.get_ident(), None)
        if child is not None:
            child.close()
