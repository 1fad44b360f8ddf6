"""What makes a step finished and intact: the sha256 of every file in it."""

import hashlib
import json
from pathlib import Path

from brainjax.records.writing import write_atomically

INTEGRITY = "integrity.json"


class DamagedError(Exception):
    """A step whose files are not those that were written; the message says how."""


def hash_files(folder: Path) -> dict[str, str]:
    """Gives the sha256 of every file under `folder`, by relative path."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != INTEGRITY and not name.startswith(INTEGRITY + "."):
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def write_integrity(folder: Path) -> None:
    """Hashes a complete step and writes its `integrity.json` atomically."""
    content = json.dumps({"sha256": hash_files(folder)}, indent=1, sort_keys=True)
    write_atomically(folder / INTEGRITY, content.encode())


def read_integrity(folder: Path) -> dict[str, str]:
    """Gives the hashes written with a step; DamagedError if they cannot be read."""
    try:
        return dict(json.loads((folder / INTEGRITY).read_text())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{INTEGRITY} cannot be read ({error})") from None


def read_verified(folder: Path, name: str) -> bytes:
    """Gives one file of a step; DamagedError if it is gone or changed."""
    wanted = read_integrity(folder).get(name)
    try:
        content = (folder / name).read_bytes()
    except OSError:
        raise DamagedError(f"{name} is missing") from None
    if hashlib.sha256(content).hexdigest() != wanted:
        raise DamagedError(f"{name} changed after it was written")
    return content


def verify(folder: Path) -> str:
    """Hashes every file of a step and gives its 12 character hash.

    Raises DamagedError naming the first file that is gone, changed or too many.
    """
    wanted, found = read_integrity(folder), hash_files(folder)
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise DamagedError(f"{name} is missing")
        if name not in wanted:
            raise DamagedError(f"{name} was not written with the step")
        if wanted[name] != found[name]:
            raise DamagedError(
                f"{name}: wanted sha256 {wanted[name][:12]}, got {found[name][:12]}"
            )
    return short_hash(wanted)


def short_hash(digests: dict[str, str]) -> str:
    """Gives the 12 hex characters that name a set of files."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:12]
