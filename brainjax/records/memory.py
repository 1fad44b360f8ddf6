"""How many workers the memory holds, here and inside a container or a cluster's job."""

import logging
from pathlib import Path

log = logging.getLogger("brainjax")


def fit_workers(asked: int, need_bytes: int) -> int:
    """Gives how many workers of `need_bytes` each there is room for: 1 to `asked`.

    Says so in the log where that is fewer than asked.
    """
    free = available_bytes()
    if free is None or need_bytes <= 0:
        return asked
    workers = max(1, min(asked, free // need_bytes))
    if workers < asked:
        log.warning(
            "memory: %.1f GB free, %.1f GB a worker: %d workers instead of %d",
            free / 1e9,
            need_bytes / 1e9,
            workers,
            asked,
        )
    return workers


def available_bytes(root: Path = Path("/")) -> int | None:
    """Gives the bytes that may still be used; None where the system does not tell.

    The least of what Linux calls available and what is left of each control group that
    this process is in (version 1 or 2). Files kept in memory count as free.
    """
    found = [_meminfo(root), *_groups_v2(root), *_groups_v1(root)]
    known = [number for number in found if number is not None]
    return max(0, min(known)) if known else None


def _meminfo(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _groups_v2(root: Path) -> list[int | None]:
    top = root / "sys/fs/cgroup"
    names = ("memory.max", "memory.current", "inactive_file")
    return [_left(folder, *names) for folder in _folders(root, top, "")]


def _groups_v1(root: Path) -> list[int | None]:
    top = root / "sys/fs/cgroup/memory"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return [_left(folder, *names) for folder in _folders(root, top, "memory")]


def _folders(root: Path, top: Path, controller: str) -> list[Path]:
    """Gives the group of this process and those above it; a limit may be on any."""
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if controller in names.split(","):
            folder = top / path.strip("/")
            above = [p for p in folder.parents if p.is_relative_to(top)]
            return [folder, *above]
    return []


def _left(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None
    kept = [
        line.split()[1]
        for line in _lines(folder / "memory.stat")
        if line.split()[:1] == [cached]
    ]
    return most - used + (int(kept[0]) if kept else 0)


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None  # "max": no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
