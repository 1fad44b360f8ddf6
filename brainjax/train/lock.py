"""A lock on a run's folder, so that no two processes write into one.

A POSIX record lock, which the system takes back when its process ends, however it ends.
On network file systems it holds between machines where they pass such locks on: NFS 4
does, NFS 3 with its lock daemon; Lustre wants the mount option `flock`. Where they do
not lock at all, the system says so and the run is refused. Object stores mounted as
folders may lock on one machine only: there two machines can still collide.
"""

import os
import socket
from pathlib import Path

from brainjax.errors import InputRefusedError

_held: dict[Path, int] = {}
"""Open files by path: closing any file of a path would take its lock away."""


def lock(path: Path) -> None:
    """Locks a file, made if it is not there, until `release` or the process ends.

    A process that holds the lock gets it again; it guards against other processes only.

    Raises:
      InputRefusedError: another process holds it, or the file system has no locks.
      OSError: the file cannot be made.
    """
    import fcntl  # not on every system, and not needed to read runs

    path = path.resolve()
    if path in _held:
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 200).decode(errors="replace").strip()
        os.close(file)
        if isinstance(error, BlockingIOError | PermissionError):
            raise InputRefusedError(
                f"{path.parent}: wanted a folder that no other run writes, got one of "
                f"{holder or 'another process'}; stop it or choose another --workdir"
            ) from None
        raise InputRefusedError(
            f"{path}: wanted a file system with locks, got {error.strerror}"
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[path] = file


def release(path: Path) -> None:
    """Gives the lock of a file back, if this process holds it."""
    file = _held.pop(path.resolve(), None)
    if file is not None:
        os.close(file)
