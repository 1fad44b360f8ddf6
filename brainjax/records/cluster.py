"""The same tasks through Dask: a scheduler that runs, or workers started on a cluster.

A Dask worker does nothing itself: each of its threads hands its task to a Child, so
that a time limit and a crash mean there what they mean here. Scans and records lie in
folders that every machine sees by the same path; only tasks and outcomes travel.
"""

import asyncio
import contextlib
import logging
import os
import pickle
import queue
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records.jobs import check_submitted, start_cluster
from brainjax.records.runners import Done, Outcome, Setup, Way, Work
from brainjax.records.station import Parcel, versions_here, work_there

log = logging.getLogger("brainjax")

CONNECT_S = 8
"""How long a scheduler may take to answer."""

WORKERS_S = 60
"""How long a scheduler that runs may be without workers; a queue may take days."""

POLL_S = 2.0


def run_on_dask(
    work: Callable[[Any], Any],
    tasks: Sequence,
    way: Way,
    done: Done,
    *,
    setup: Setup = None,
    shared: Path | None = None,
) -> None:
    """Does what `run_tasks` says through Dask; a second call continues a broken one.

    A task whose Dask worker dies goes to another, as often as the scheduler's
    `allowed-failures` says (one we start: twice), and then fails alone.

    Raises:
      MissingExtraError: without distributed (or dask-jobqueue, for a cluster).
      InputRefusedError: one line: no scheduler answers, it was lost, it has no workers,
        a worker has other versions of what makes the records, or another disk.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        client = stack.enter_context(_connect(way))
        token = stack.enter_context(_token(shared))
        inner = pickle.dumps(Work(work, setup))
        parcel = Parcel(inner, way.limit_s, os.getcwd(), token, versions_here())
        batch = _Batch(client, parcel, tasks)
        killed = []

        def tell(position: int, outcome: Outcome) -> None:
            if outcome.killed:
                killed.append(position)
            else:
                done(position, outcome)

        batch.run(range(len(tasks)), tell)
        batch.run(sorted(killed), done)


class _Batch:
    """Tasks on their way through one scheduler."""

    def __init__(self, client: Any, parcel: Parcel, tasks: Sequence):
        self._client, self._tasks = client, tasks
        self._name = f"scan-{secrets.token_hex(4)}"
        # A task of its own, so that it is made again where its worker dies.
        self._parcel = client.submit(bytes, pickle.dumps(parcel), key=f"{self._name}-0")
        self._round = 0

    def run(self, positions: Sequence[int], tell: Done) -> None:
        """Does some of the tasks; tells of each as it comes."""
        self._round += 1
        answers: queue.SimpleQueue = queue.SimpleQueue()
        left = {}
        for position in positions:
            key = (self._name, self._round, position)
            future = self._client.submit(
                work_there, self._parcel, self._tasks[position], key=key
            )
            left[position] = future
            future.add_done_callback(lambda _, position=position: answers.put(position))
        total = len(left)
        while left:
            try:
                position = answers.get(timeout=POLL_S)
            except queue.Empty:
                self._check(total - len(left), total)
                continue
            outcome = self._outcome(left[position], total - len(left), total)
            if outcome is None:  # its worker died with it: it is being done again
                answers.put(position)
                continue
            left.pop(position).release()
            tell(position, outcome)

    def _outcome(self, future: Any, done: int, total: int) -> Outcome | None:
        from distributed import KilledWorker

        try:
            return future.result(timeout=POLL_S)
        except TimeoutError:
            self._check(done, total)
            return None
        except KilledWorker:
            return Outcome(None, "wanted a volume, got Dask workers that died with it")
        except InputRefusedError:  # the worker's: it would refuse every task
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not future.cancelled():
                raise  # an interrupt
            self._check(done, total, lost=future.cancelled())
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputRefusedError(
                f"{_address(self._client)}: wanted Dask workers that can run brainjax, "
                f"got {reason}"
            ) from None

    def _check(self, done: int, total: int, lost: bool = False) -> None:
        if lost or self._client.status != "running":
            raise InputRefusedError(
                f"{_address(self._client)}: wanted a Dask scheduler, got none any more "
                f"after {done} of {total} tasks; what is done stays, run it again"
            )


@contextlib.contextmanager
def _connect(way: Way) -> Iterator[Any]:
    """Gives a client of the way's scheduler, or of a cluster that it starts."""
    try:
        import distributed
    except ImportError:
        raise MissingExtraError("distributed", "dask") from None
    with contextlib.ExitStack() as stack:
        place = way.scheduler
        if place is None:
            place = stack.enter_context(start_cluster(way))
        try:
            _probe(place)
            client = distributed.Client(place, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputRefusedError(
                f"{place}: wanted a Dask scheduler, got {reason}"
            ) from None
        stack.callback(_close, client)
        _check_scheduler(client)
        _wait_for_worker(client, way, place)
        yield client


def _probe(place: Any) -> None:
    """Raises TimeoutError where something takes the connection and never answers.

    The client's own timeout does not cover that. In a thread: a notebook's has a loop.
    """
    if not str(place).startswith(("tcp://", "tls://")):
        return
    failure: list[BaseException] = []

    def ask() -> None:
        try:
            asyncio.run(asyncio.wait_for(_shake_hands(place), CONNECT_S))
        except (OSError, ValueError, RuntimeError) as error:
            failure.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise OSError(str(failure[0]) or f"no answer in {CONNECT_S} s")


async def _shake_hands(address: str) -> None:
    from distributed.comm.core import connect
    from distributed.security import Security

    words = Security().get_connection_args("client")
    comm = await connect(address, timeout=CONNECT_S, **words)
    await comm.close()


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        client.close(timeout=CONNECT_S)


def _check_scheduler(client: Any) -> None:
    """Refuses a scheduler of another Dask; its messages would be misread."""
    wanted = metadata.version("distributed")
    # Of the scheduler alone: a worker that hangs would keep all waiting.
    found = client.sync(client.scheduler.versions)["packages"]["distributed"]
    if found != wanted:
        raise InputRefusedError(
            f"{_address(client)}: wanted a scheduler of distributed "
            f"{wanted}, got one of {found}"
        )


def _wait_for_worker(client: Any, way: Way, place: Any) -> None:
    if way.cluster:
        log.info("waiting for the first Dask worker from %s", way.cluster)
    end = time.monotonic() + WORKERS_S
    while not client.scheduler_info()["workers"]:
        if way.scheduler and time.monotonic() > end:
            raise InputRefusedError(
                f"{_address(client)}: wanted a Dask scheduler with workers, got one "
                f"without any for {WORKERS_S} s"
            )
        if way.cluster:
            check_submitted(place)
        time.sleep(0.1)


def _address(client: Any) -> str:
    scheduler = client.scheduler
    return getattr(scheduler, "address", None) or "Dask"


@contextlib.contextmanager
def _token(shared: Path | None) -> Iterator[tuple[str, str] | None]:
    """Writes a word that workers find only where they see this very folder."""
    if shared is None:
        yield None
        return
    word = secrets.token_hex(8)
    # A name of its own: a worker may remember a file of the last call.
    path = shared.absolute() / f"{word}.token"
    path.write_text(word)
    try:
        yield str(path), word
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dask's own long messages from the terminal: ours say it in a line."""
    logger = logging.getLogger("distributed")
    with contextlib.suppress(ImportError):
        import distributed  # noqa: F401 (it sets up its logger when it loads)
    before = list(logger.handlers)
    logger.handlers[:] = [logging.NullHandler()]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        logger.handlers[:] = before
