"""One scan to one staged record, in this process or in others that may die."""

import contextlib
import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.sources import Source
from brainjax.records.store import (
    Shards,
    decode_record,
    encode_record,
    write_atomically,
)
from brainjax.volume.recipe import AnyRecipe, prepare_volume

log = logging.getLogger("brainjax")

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Job(NamedTuple):
    """What every scan of one preparation shares.

    stored: shards that are there already; places: key -> record in which of them;
    staged: keys that an interrupted call left behind.
    """

    staging: Path
    recipe: AnyRecipe
    orientation: str | None
    stored: tuple[Shards, ...]
    places: dict[str, tuple[int, int]]
    staged: frozenset[str]


class Staged(NamedTuple):
    """The outcome of one scan: the key of its record, or why there is none."""

    key: str | None
    reused: bool
    reason: str


Done = Callable[[int, Staged], None]


def stage_all(job: Job, sources: Sequence[Source], workers: int, done: Done) -> None:
    """Stages every scan and tells `done(position, outcome)` of each, in any order.

    One worker: in this process. More: in spawned processes. When one of those dies
    (out of memory, say) the scans it may have held are staged one by one, so that only
    the one that kills its process fails.
    """
    if workers == 1:
        for position, source in enumerate(sources):
            done(position, stage(job, source))
        return
    left = list(range(len(sources)))
    while left:
        lost = _run_pool(job, sources, left, workers, done)
        suspects, left = lost[: 2 * workers + 1], lost[2 * workers + 1 :]
        for position in suspects:
            if _run_pool(job, sources, [position], 1, done):
                reason = "wanted a volume, got a killed process (out of memory?)"
                path = sources[position].path
                done(position, Staged(None, False, f"{path}: {reason}"))


def stage(job: Job, source: Source) -> Staged:
    """Makes the record of a scan unless a good one is stored or staged already."""
    try:
        key = record_key(source, job.recipe, job.orientation)
        path = staged_path(job.staging, key)
        if _is_stored(job, key):
            return Staged(key, True, "")
        if _is_staged(path):  # by an earlier call, or by this one for a twin
            return Staged(key, key in job.staged, "")
        volume = prepare_volume(
            source.path,
            job.recipe,
            mask_path=source.mask,
            orientation=job.orientation,
        )
        # The record is of the content: the same bytes wherever the file lies.
        facts = {k: v for k, v in volume.provenance.items() if k not in _PLACES}
        header = {"key": key, "affine": volume.affine.tolist(), "provenance": facts}
        write_atomically(path, encode_record(volume.codes, header))
        return Staged(key, False, "")
    except InputRefusedError as error:
        return Staged(None, False, str(error))
    except Exception as error:  # a bad file fails alone, whatever it sets off
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Staged(None, False, f"{source.path}: {reason}")


_PLACES = ("source", "mask_source", "mask_path")


def record_key(source: Source, recipe: AnyRecipe, orientation: str | None) -> str:
    """Gives the name of a record: sha256 of all that decides its bytes."""
    parts = [_digest(source.path), _digest(source.mask) if source.mask else "-"]
    text = "\n".join([*parts, recipe.hash, orientation or "-"])
    return hashlib.sha256(text.encode()).hexdigest()


def staged_path(staging: Path, key: str) -> Path:
    """Gives the file of a staged record."""
    return staging / f"{key}.record"


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a scan, got {error.strerror}"
        ) from None


def _is_stored(job: Job, key: str) -> bool:
    if key not in job.places:
        return False
    which, record = job.places[key]
    try:
        return job.stored[which].read(record)[1]["key"] == key
    except InputRefusedError as error:
        log.warning("making a record anew: %s", error)
        return False


def _is_staged(path: Path) -> bool:
    try:
        decode_record(path.read_bytes())
    except (OSError, ValueError, KeyError):
        return False
    return True


_job: Job | None = None


def _start(job: Job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends an orphan: the pool of a killed process would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stage_in_worker(source: Source) -> Staged:
    assert _job is not None
    return stage(_job, source)


def _run_pool(
    job: Job,
    sources: Sequence[Source],
    positions: Sequence[int],
    workers: int,
    done: Done,
) -> list[int]:
    """Stages some scans in processes; gives those that a dead process left undone.

    Raises InputRefusedError when not even an idle process lives.
    """
    finished = set()
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(positions)), spawn, initializer=_start, initargs=(job,)
    )
    try:
        with _one_thread_each():
            _check_alive(pool)
        with contextlib.suppress(BrokenProcessPool):
            futures = {pool.submit(_stage_in_worker, sources[p]): p for p in positions}
            for future in as_completed(futures):
                done(futures[future], future.result())
                finished.add(futures[future])
    finally:
        pool.shutdown(cancel_futures=True)
    return [position for position in positions if position not in finished]


def _check_alive(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise InputRefusedError(
            "prepare: wanted worker processes, got none that starts: a script needs "
            'if __name__ == "__main__" round it, or workers=1'
        ) from None


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keeps the processes started inside from using more than one thread each."""
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
