"""Files that are whole or absent, and the folders they lie in."""

import os
import secrets
from pathlib import Path

from brainjax.errors import InputRefusedError


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either whole or absent, also after a power cut."""
    # On a shared disk two machines may have processes of the same number.
    half = path.with_name(f"{path.name}.{secrets.token_hex(6)}.half")
    try:
        with half.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except OSError:
        half.unlink(missing_ok=True)  # a full disk needs the room
        raise


def write_file(path: Path, data: bytes) -> None:
    """Writes a file a user asked for, whole; InputRefusedError where it cannot be."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a file to write, got {error.strerror}"
        ) from None


def make_folder(out: Path) -> None:
    """Makes a folder a user asked for; InputRefusedError where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a folder to write in, got {error.strerror}"
        ) from None
