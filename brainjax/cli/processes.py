"""One of several processes of a run: how it joins them, and stops when one stops.

jax ends a process whose peers are lost by aborting it. So the process has a parent
that waits for it and says in one line what happened; and a process that fails by itself
tells the others why, so that they need not wait for a heartbeat to fail.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from brainjax.cli.codes import GOOD, OURS
from brainjax.errors import InputRefusedError

CUSTOMARY = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""What `--processes auto` finds in the environment goes before a cluster."""

SECONDS = 2.0
"""Between two looks for what another process has said."""

_LOST = ("gloo", "nccl", "coordination service", "heartbeat", "barrier")
"""In what a collective operation says when a process it needs is gone."""


class Peers:
    """The other processes of a run: what they say, and what they are told.

    A thread looks for their last words now and then, and ends this process as the other
    ended when there are any: its own thread may be waiting for that one for good.
    """

    def __init__(self, verb: str):
        import jax
        from jax._src import distributed  # no public way leads to its key-value store

        self.count = jax.process_count()
        self.me = f"process {jax.process_index()} of {self.count}"
        self.verb = verb
        self._store: Any = distributed.global_state.client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def explain(self, error: Exception) -> str | None:
        """Gives a line where an error is only that another process is gone."""
        text = " ".join(str(error).split())
        if self.count == 1 or not any(word in text.lower() for word in _LOST):
            return None
        time.sleep(2 * SECONDS)  # the listener may know the reason, and end us with it
        return f"stopped, because another process was lost ({text[:160]})"

    def leave(self, code: int, line: str) -> None:
        """Ends this process at once if it failed; waiting for the others is no use."""
        self.close()
        if code == GOOD:
            return
        with contextlib.suppress(Exception):  # the store may be what was lost
            self._store.key_value_set(_STOPPED, f"{code} {self.me}: {line}")
            if self.me.startswith("process 0 "):
                time.sleep(2 * SECONDS)  # the store goes with us: let them read it
        _end(code)

    def close(self) -> None:
        """Stops listening."""
        self._done.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._done.wait(SECONDS):
            with contextlib.suppress(Exception):  # "not found" as long as all is well
                code, _, said = self._store.key_value_try_get(_STOPPED).partition(" ")
                print(
                    f"brainjax {self.verb}: {self.me}: stopped with {said}",
                    file=sys.stderr,
                )
                _end(int(code))


_STOPPED = "brainjax/stopped"


def join(options: argparse.Namespace) -> Peers | None:
    """Joins the other processes if the words ask for it, before jax is touched.

    Raises:
      InputRefusedError: flags or environment are incomplete or cannot be used.
    """
    words = read_words(options, os.environ)
    if words is None:
        return None
    joined = _with_parent(options.verb)
    from brainjax.parallel import start_processes

    start_processes(**words)
    peers = Peers(options.verb)
    joined(peers.me)
    return peers


def read_words(
    options: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """Gives the arguments of `start_processes`, or None for a run of one process.

    Raises:
      InputRefusedError: some of what is needed is missing, or is no number.
    """
    flags = [
        getattr(options, name, None)
        for name in ("coordinator", "processes", "process_index")
    ]
    if flags == [None] * 3:
        return None
    names = ("--coordinator", "--processes", "--process-index")
    if flags[1] == "auto":
        if flags[0] is not None or flags[2] is not None:
            raise InputRefusedError(
                "--processes auto: wanted it alone, got it with --coordinator or "
                "--process-index"
            )
        flags, names = [environment.get(name) for name in CUSTOMARY], CUSTOMARY
        if flags == [None] * 3:
            return {}
    missing = [name for name, flag in zip(names, flags, strict=True) if not flag]
    if missing:
        raise InputRefusedError(
            f"{names[1]}: wanted {', '.join(names)} together, got no "
            f"{' and no '.join(missing)}"
        )
    coordinator, processes, index = map(str, flags)
    return {
        "coordinator": coordinator,
        "processes": _number(names[1], processes),
        "index": _number(names[2], index),
    }


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputRefusedError(f"{name}: wanted a number, got {text!r}") from None


def _with_parent(verb: str) -> Callable[[str], None]:
    """Splits off a child, and goes on in it; the parent waits and gives its exit code.

    Gives a function that tells the parent who the child is, once it has joined. Where
    jax is loaded already, as in a notebook, it is too late to split.
    """
    if "jax" in sys.modules or not hasattr(os, "fork"):
        return lambda me: None
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        _await(child, reader, verb)
    os.close(reader)
    _die_with_parent()

    def joined(me: str) -> None:
        os.write(writer, me.encode())

    return joined


def _await(child: int, reader: int, verb: str) -> None:
    """Passes signals on until the child ends, says why it did, and ends alike."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells both
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        me = os.read(reader, 100).decode()
        line = _last_words(-code, joined=bool(me))
        print(f"brainjax {verb}: {me}{': ' * bool(me)}{line}", file=sys.stderr)
    _end(code if code >= 0 else OURS)


def _last_words(number: int, *, joined: bool) -> str:
    name = signal.Signals(number).name
    if number != signal.SIGABRT:
        return f"stopped by {name}"
    if not joined:
        return "stopped: not all processes came to the coordinator in time (see above)"
    return (
        "stopped, because another process or the coordinator was lost (see above); "
        "started again, the run goes on from its newest checkpoint"
    )


def _die_with_parent() -> None:
    """Has Linux kill this process when its parent is killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _end(code: int) -> None:
    """Ends at once: an orderly exit would wait for processes that never come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
