"""A process that does one thing at a time and may die or be late without harm.

Why not a pool: a pool cannot say which task killed its process, cannot stop one that is
late, and takes the other tasks down with it.
"""

import contextlib
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.records.serving import HEAD, frame, serve

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""What libraries read when they load: every process of ours uses one thread."""

START_S = 300.0
"""A process that has not started by then will not: a file system that hangs, say."""

END_S = 10.0
"""A killed process that has not ended by then waits for a file system that hangs."""

_birth = threading.RLock()
"""Starting changes the environment, reaping the list of children: one at a time."""


class ChildDiedError(RuntimeError):
    """The process ended without an answer; `code` is negative for a signal."""

    def __init__(self, code: int | None):
        self.code = code
        super().__init__(describe_end(code))


class ChildLateError(RuntimeError):
    """The answer took longer than `limit_s`; the process was killed."""

    def __init__(self, limit_s: float):
        self.limit_s = limit_s
        super().__init__(f"no answer in {limit_s:g} s")


def describe_end(code: int | None) -> str:
    """Gives how a process ended: "a killed process (out of memory?)"."""
    if code == -signal.SIGKILL:
        return "a killed process (out of memory?)"
    if code is not None and code < 0:
        return f"a process that ended with {_signal_name(-code)}"
    return f"a process that ended with code {code}"


class Child:
    """A spawned process with one thread and a folder of its own for temporary files.

    It ends with this process, however that ends, and takes what it started with it.

    Args:
      setup: called first in the process; its error is raised here.

    Raises:
      InputRefusedError: a process of ours does not even start.
    """

    def __init__(self, setup: Callable[[], None] | None = None):
        self._scratch = tempfile.mkdtemp(prefix="brainjax-")
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        try:
            self._process = _spawn(theirs, setup, self._scratch)
        except BaseException:
            self._line.close()
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        finally:
            theirs.close()
        self._ended = _end_signal(self._process)
        self._alive = True
        try:
            _result(self._trade(b"", START_S))
        except (ChildDiedError, ChildLateError):
            raise InputRefusedError(
                "wanted worker processes, got none that starts: a script needs "
                'if __name__ == "__main__" round it, or workers=1'
            ) from None
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Tells whether `run` may be called: false once it died, was late or closed."""
        return self._alive and not self._wait_for_end(0.0)

    def run(self, function: Callable, *args: Any, limit_s: float | None = None) -> Any:
        """Gives what `function(*args)` gives in the process; its error is raised here.

        Function, arguments and result are pickled. After either of the errors below
        the process is gone, and another Child has to take its place.

        Raises:
          ChildDiedError: the process ended: killed, crashed, closed.
          ChildLateError: no result within `limit_s` seconds.
        """
        return _result(self._trade(frame((function, args)), limit_s))

    def kill(self) -> None:
        """Kills the process and what it started; may be called from any thread."""
        with _birth:
            pid = self._process.pid if self._alive else None
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # its programs too (see `serve`)
            self._process.kill()

    def close(self) -> int | None:
        """Ends the process, at once; gives its exit code; None: it has none yet."""
        if not self._alive:
            return None
        self.kill()
        ended, code = self._wait_for_end(END_S), None
        with _birth:
            self._alive = False
            if ended:  # else it hangs in the system, and so would we
                self._process.join()
                code = self._process.exitcode
                self._process.close()
        self._line.close()
        if self._ended is not None:
            os.close(self._ended)
            self._ended = None
        shutil.rmtree(self._scratch, ignore_errors=True)
        return code

    def _trade(self, request: bytes, limit_s: float | None) -> bytes:
        """Sends a request and gives the answer, or closes and says why there is none.

        Neither direction blocks: a process may be stopped or killed in the middle of a
        message, and one that it forked may hold its end of the line open.
        """
        if not self._alive:
            raise ChildDiedError(None)
        whole = False
        try:
            answer = self._exchange(memoryview(request), limit_s)
            whole = True
            return answer
        except (BrokenPipeError, ConnectionResetError, EOFError):
            self._wait_for_end(1.0)  # with a code of its own, where it has one
            raise ChildDiedError(self.close()) from None
        except TimeoutError:
            raise ChildLateError(limit_s or 0.0) from None
        finally:
            if not whole:  # an interrupt, too, leaves an answer on its way
                self.close()

    def _exchange(self, unsent: memoryview, limit_s: float | None) -> bytes:
        line, answer = self._line.fileno(), bytearray()
        end = None if limit_s is None else time.monotonic() + limit_s
        while True:
            ready = self._wait(bool(unsent), end)
            if unsent and ready.get(line):
                unsent = unsent[self._line.send(unsent) :]
            elif ready.get(line):
                chunk = self._line.recv(1 << 16)
                answer += chunk
                if len(answer) >= HEAD.size + _length(answer):
                    return bytes(answer[HEAD.size :])
                if not chunk:
                    raise EOFError
            elif ready:
                raise EOFError  # the process ended, and nothing of it is left to read
            else:
                raise TimeoutError

    def _wait(self, sending: bool, end: float | None) -> dict[int, int]:
        """Gives what is ready of the line and the process's end; nothing: too late."""
        poll = select.poll()
        way = select.POLLOUT if sending else select.POLLIN
        poll.register(self._line, way)
        poll.register(self._ending, select.POLLIN)
        if end is None:
            return dict(poll.poll())
        left_ms = max(0.0, end - time.monotonic()) * 1000
        return dict(poll.poll(min(left_ms, 2**31 - 1)))

    def _wait_for_end(self, most_s: float) -> bool:
        poll = select.poll()
        poll.register(self._ending, select.POLLIN)
        return bool(poll.poll(most_s * 1000))

    @property
    def _ending(self) -> int:
        return self._process.sentinel if self._ended is None else self._ended


def _spawn(
    line: socket.socket, setup: Callable[[], None] | None, scratch: str
) -> multiprocessing.Process:
    """Starts a process that serves the line.

    A Dask worker is a daemonic process, which may have none unless it says otherwise.
    """
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=serve, args=(line, setup, scratch), daemon=True)
    with _birth, _one_thread_each():
        here = multiprocessing.current_process()
        daemonic = here.daemon
        try:
            here.daemon = False
            process.start()
        finally:
            here.daemon = daemonic
    return process  # type: ignore[return-value]


def _end_signal(process: multiprocessing.Process) -> int | None:
    """Gives a file that is readable once the process ended; None: use its sentinel.

    The sentinel stays open as long as a process that ours forked.
    """
    if not hasattr(os, "pidfd_open") or process.pid is None:
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        return None


def _length(answer: bytearray) -> int:
    if len(answer) < HEAD.size:
        return 1
    return HEAD.unpack_from(answer)[0]


def _result(answer: bytes) -> Any:
    good, value = pickle.loads(answer)
    if good:
        return value
    raise value


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
