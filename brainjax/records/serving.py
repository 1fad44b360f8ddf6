"""The other end of a Child: what runs in the spawned process."""

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from brainjax.errors import InputRefusedError

HEAD = struct.Struct("!Q")
"""A message is its length and then a pickle."""


def frame(value: Any) -> bytes:
    """Gives a message."""
    data = pickle.dumps(value)
    return HEAD.pack(len(data)) + data


def serve(line: socket.socket, setup: Callable[[], None] | None, scratch: str) -> None:
    """Sets up, says so, then answers calls until the line ends."""
    os.setpgid(0, 0)  # one kill ends this process and the programs that it started
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    with line.makefile("rwb") as stream, contextlib.suppress(BrokenPipeError):
        stream.write(_answer(setup or _nothing, ()))
        stream.flush()
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            stream.write(_call(stream.read(*HEAD.unpack(head))))
            stream.flush()


def portable(error: BaseException) -> BaseException:
    """Gives the error, or one that says the same and can be unpickled elsewhere."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = InputRefusedError if isinstance(error, InputRefusedError) else None
        return kind(str(error)) if kind else RuntimeError(describe_error(error))
    return error


def describe_error(error: BaseException) -> str:
    """Gives one line: what was refused, or the kind of error and its text."""
    if isinstance(error, InputRefusedError):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())


def _call(data: bytes) -> bytes:
    try:
        function, args = pickle.loads(data)
    except Exception as error:
        return frame((False, portable(error)))
    return _answer(function, args)


def _answer(function: Callable, args: tuple) -> bytes:
    try:
        return frame((True, function(*args)))
    except BaseException as error:  # SystemExit too: a task does not end its process
        return frame((False, portable(error)))


def _nothing() -> None:
    pass


def _end_with_parent() -> None:
    """Ends this process and its group when the parent has ended, even by kill -9.

    The parent holds the other end of a pipe. Linux sends the signal itself when that
    closes, also to a process that is deep in a library and never runs Python again;
    a thread that waits for the parent serves everywhere else.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if hasattr(fcntl, "F_SETSIG"):
        pipe = parent.sentinel
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
            fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
            fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)


def _follow(parent: Any) -> None:
    parent.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)
