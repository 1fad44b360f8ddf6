"""What runs on a Dask worker: Children that it keeps from one task to the next."""

import atexit
import hashlib
import os
import pickle
import platform
import threading
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.children import Child
from brainjax.records.runners import Outcome, attempt

SAME = ("brainjax", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "nilearn")
"""Packages that decide the bytes of a record: the same version on every worker."""

IDLE_S = 60.0


class Parcel(NamedTuple):
    """What every task of a run needs, sent once to a worker.

    Attributes:
      work: the pickled setup of a Child (see `runners.Work`).
      limit_s: of a task.
      folder: the caller's, which paths are relative to.
      token: a file that the caller wrote and the word in it.
      versions: the caller's, as from `versions_here`.
    """

    work: bytes
    limit_s: float | None
    folder: str
    token: tuple[str, str] | None
    versions: dict[str, str | None]


def versions_here() -> dict[str, str | None]:
    """Gives the versions of Python and of what decides a record's bytes."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: _version(name) for name in SAME}}


def work_there(parcel: bytes, task: Any) -> Outcome:
    """Does a task in a Child of this Dask worker.

    Raises:
      InputRefusedError: this worker cannot do any task of the parcel; one line.
    """
    return _station_for(parcel).do(task)


def dismiss() -> None:
    """Ends the idle Children of this worker."""
    global _station
    with _lock:
        station, _station = _station, None
    if station is not None:
        station.close()


class _Station:
    """The Children of one parcel: at most as many as the worker has threads."""

    def __init__(self, parcel: Parcel):
        check_worker(parcel)
        self._setup = partial(start_there, parcel.work, parcel.folder)
        self._limit_s = parcel.limit_s
        self._idle: list[Child] = []
        self._open = True
        self._rest: threading.Timer | None = None

    def do(self, task: Any) -> Outcome:
        child = self._take()
        outcome = attempt(child, task, self._limit_s)
        with _lock:
            keep = self._open and child.alive
            if keep:
                self._idle.append(child)
            self._rest_later()
        if not keep:
            child.close()
        return outcome

    def close(self) -> None:
        with _lock:
            self._open = False
            if self._rest is not None:
                self._rest.cancel()
        self._close_idle()

    def _rest_later(self) -> None:
        """Ends idle Children in a while: nobody says when the caller has ended."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = threading.Timer(IDLE_S, self._close_idle)
        self._rest.daemon = True
        self._rest.start()

    def _close_idle(self) -> None:
        with _lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()

    def _take(self) -> Child:
        while True:
            with _lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return Child(self._setup)
            if child.alive:
                return child
            child.close()


_lock = threading.Lock()
_station: _Station | None = None
_digest = b""


def _station_for(parcel: bytes) -> _Station:
    """Gives the parcel's station; that of an earlier parcel is closed."""
    global _station, _digest
    digest = hashlib.sha256(parcel).digest()
    with _lock:
        if _station is not None and _digest == digest:
            return _station
    fresh = _Station(pickle.loads(parcel))
    with _lock:
        if _station is not None and _digest == digest:
            return _station  # another thread was first
        old, _station, _digest = _station, fresh, digest
    if old is not None:
        old.close()
    return fresh


def check_worker(parcel: Parcel) -> None:
    """Refuses this worker where it would write other bytes, or elsewhere.

    Raises:
      InputRefusedError: names both versions, or the folder that is not the same.
    """
    where, here = f"Dask worker on {platform.node()}", versions_here()
    for name, wanted in parcel.versions.items():
        if here.get(name) != wanted:
            raise InputRefusedError(
                f"{where}: wanted {name} {wanted or 'absent'}, as here, got "
                f"{here.get(name) or 'none'}"
            )
    if parcel.token is not None:
        path, word = parcel.token
        if _read(path) != word:
            raise InputRefusedError(
                f"{where}: wanted the folder {os.path.dirname(path)} shared by every "
                "machine, got one that does not hold what this one wrote there"
            )


def start_there(work: bytes, folder: str) -> None:
    """Goes to the caller's folder and sets up its work; a Child's setup."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputRefusedError(
            f"{folder}: wanted the folder on every worker, got {error.strerror} on "
            f"{platform.node()}"
        ) from None
    pickle.loads(work)()


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


atexit.register(dismiss)
