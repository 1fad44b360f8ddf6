"""The rows of a study: one line a run, appended, so that a kill loses none of them."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brainjax.infer.table import write_table
from brainjax.train.folder import finite

Row = dict[str, Any]

LONG = ("answers",)
"""What is in rows.jsonl and has no place in a table."""


class Rows:
    """The file rows.jsonl of a study: what ended, and what went wrong.

    A line is written whole and synced before the next run begins. A run that is done
    again writes another line with the same digest; the last one counts.
    """

    def __init__(self, folder: Path):
        self.path = folder / "rows.jsonl"
        self.table = folder / "rows.csv"
        self.parquet = folder / "rows.parquet"
        self._rows = {row["digest"]: row for row in self._read()}

    def get(self, digest: str) -> Row | None:
        """Gives the row of a run, None where there is none."""
        return self._rows.get(digest)

    def finished(self, digest: str) -> bool:
        """Whether a run ended well; one that failed is tried again."""
        row = self._rows.get(digest)
        return row is not None and not row["error"]

    def append(self, row: Row) -> None:
        """Adds the row of a run for good."""
        self._rows[row["digest"]] = row
        line = json.dumps(finite(row)) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def all(self) -> list[Row]:
        """Gives the newest row of every run, in the order in which they came."""
        return list(self._rows.values())

    def write_tables(self, digests: Iterable[str]) -> None:
        """Writes rows.csv, and rows.parquet where pyarrow is installed."""
        found = [self._rows[name] for name in digests if name in self._rows]
        names = dict.fromkeys(key for row in found for key in row if key not in LONG)
        columns = {name: [row.get(name) for row in found] for name in names}
        write_table(columns, self.table)
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            return
        write_table(columns, self.parquet)

    def _read(self) -> list[Row]:
        """The whole lines; what a kill left of the last one is cut off."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return [row for line in whole.splitlines() if (row := _parse(line))]


def _parse(line: bytes) -> Row | None:
    """A row, or None for a line that a disk has damaged: its run is done again."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"digest", "error"} <= set(row) else None
