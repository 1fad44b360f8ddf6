"""A Child: its answers, and every way in which it may fail to give one."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records import children
from brainjax.records.children import Child, ChildDiedError, ChildLateError
from brainjax.records.serving import portable


@pytest.fixture
def child():
    made = Child()
    yield made
    made.close()


class TwoWordsError(InputRefusedError):
    """One that cannot be unpickled."""

    def __init__(self, path: str, got: str):
        super().__init__(f"{path}: got {got}")


def end(code: int) -> None:
    os._exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def refuse() -> None:
    raise InputRefusedError("a.nii: wanted a scan, got soup")


def miss() -> None:
    raise MissingExtraError("SimpleITK", "scanner")


def surroundings() -> dict:
    names = children.THREAD_LIMITS
    return {
        "pid": os.getpid(),
        "threads": {os.environ.get(name) for name in names},
        "scratch": tempfile.mkdtemp(),
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
    }


def never_in_python(seconds: float) -> None:
    """Holds the interpreter's lock, as a library that computes may."""
    ctypes.PyDLL(None).sleep(int(seconds))


def start_sleeper(path: str) -> None:
    """Starts a program, notes its number and waits for it."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        Path(path).write_text(str(sleeper.pid))


def fork_and_die() -> None:
    """Leaves a process that holds every file of this one open."""
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    kill_self(signal.SIGKILL)


def half_a_message() -> bytes:
    """Dies of the answer: of 40 MB some part is on its way."""
    threading.Timer(0.05, partial(kill_self, signal.SIGKILL)).start()
    return b"x" * 40_000_000


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(true, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_answers_and_errors_come_back_and_the_process_stays(child):
    found = child.run(surroundings)
    assert found["threads"] == {"1"}
    assert found["interrupt"]
    assert os.environ.get("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS") != "1"
    assert child.run(len, "x" * 3_000_000) == 3_000_000
    with pytest.raises(InputRefusedError, match=r"^a\.nii: wanted a scan, got soup$"):
        child.run(refuse)
    with pytest.raises(InputRefusedError, match="SimpleITK is not installed"):
        child.run(miss)
    with pytest.raises(SystemExit):
        child.run(sys.exit, 3)
    with pytest.raises(AttributeError):
        child.run(getattr, "text", "nothing")
    with pytest.raises(TypeError, match="pickle"):
        child.run(threading.Lock)
    assert child.run(os.getpid) == found["pid"] != os.getpid()
    assert Path(found["scratch"]).is_dir()
    child.close()
    assert not Path(found["scratch"]).exists()
    assert not child.alive
    with pytest.raises(ChildDiedError):
        child.run(os.getpid)


@pytest.mark.parametrize(
    ("work", "code", "text"),
    [
        (partial(end, 3), 3, "ended with code 3"),
        (partial(kill_self, signal.SIGKILL), -9, "killed process"),
        (partial(kill_self, signal.SIGSEGV), -11, "SIGSEGV"),
        (half_a_message, -9, "killed process"),
        (fork_and_die, -9, "killed process"),
    ],
    ids=("exit", "kill", "crash", "half", "fork"),
)
def test_a_death_is_told_at_once(child, work, code, text):
    began = time.monotonic()
    with pytest.raises(ChildDiedError, match=text) as caught:
        child.run(work)
    assert caught.value.code == code
    assert time.monotonic() - began < 4
    assert not child.alive


def test_one_that_is_late_is_killed_with_its_programs(child, tmp_path):
    note = tmp_path / "pid"
    with pytest.raises(ChildLateError, match=r"no answer in 0\.7 s"):
        child.run(start_sleeper, str(note), limit_s=0.7)
    assert not child.alive
    assert wait_until(lambda: not is_running(int(note.read_text())))


def test_one_that_does_not_listen_is_late_too(child):
    """A stopped process takes no more than the line holds."""
    os.kill(child.run(os.getpid), signal.SIGSTOP)
    with pytest.raises(ChildLateError):
        child.run(len, "x" * 3_000_000, limit_s=0.2)


def test_killed_from_another_thread(child):
    threading.Timer(0.1, child.kill).start()
    with pytest.raises(ChildDiedError):
        child.run(time.sleep, 30)


def test_one_that_dies_idle_is_seen(child):
    assert child.alive
    os.kill(child.run(os.getpid), signal.SIGKILL)
    assert wait_until(lambda: not child.alive)


def test_an_error_of_the_setup_is_raised_here():
    with pytest.raises(InputRefusedError, match="soup"):
        Child(refuse)
    with pytest.raises(InputRefusedError, match="wanted worker processes, got none"):
        Child(partial(end, 1))


def test_errors_travel():
    assert portable(ValueError("x")).args == ("x",)
    assert portable(MissingExtraError("SimpleITK", "scanner")).args[0].endswith("r]'")
    refused = portable(TwoWordsError("a.nii", "soup"))
    assert isinstance(refused, InputRefusedError)  # Dask lets it be pickled whole
    assert str(refused) == "a.nii: got soup"
    local = type("LocalError", (Exception,), {})
    assert str(portable(local("a\nb"))) == "LocalError: a b"


PARENT = """
import sys
from tests.records import test_children
from brainjax.records.children import Child
if __name__ == "__main__":
    child = Child()
    print(child.run(test_children.os.getpid), flush=True)
    child.run(getattr(test_children, sys.argv[1]), float(sys.argv[2]))
"""


@pytest.mark.parametrize("work", ["never_in_python"])
def test_ends_with_a_killed_parent(work, tmp_path):
    """Also while it computes in a library that never lets go."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    words = [sys.executable, str(script), work, "60"]
    path = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=path) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not is_running(pid))
