"""Labels of scans, from a table of participants."""

import logging
import math
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.sources import Source, bare
from brainjax.records.tables import find_column, need_column, read_table

log = logging.getLogger("brainjax")

Value = str | int | float | None
_NONE = ("", "n/a", "nan")


class Labels(NamedTuple):
    """Labels by (subject, session); session None where a row is for all of them."""

    columns: tuple[str, ...]
    rows: dict[tuple[str, str | None], dict[str, Value]]

    def of(self, subject: str | None, session: str | None) -> dict[str, Value]:
        """Gives the labels of a scan, empty when the table has none for it."""
        if subject is None:
            return {}
        for key in ((subject, session), (subject, None)):
            if key in self.rows:
                return self.rows[key]
        sessions = [key for key in self.rows if key[0] == subject]
        # A scan that does not say its session: certain only if there is but one.
        if session is None and len(sessions) == 1:
            return self.rows[sessions[0]]
        return {}


def read_labels(path: str | Path) -> Labels:
    """Gives the labels of a table with a column participant_id (or subject).

    A column session (or session_id) is optional; `sub-` and `ses-` may be left out.
    Empty, n/a and nan mean unknown. A column is numbers when all it knows are numbers.

    Raises:
      InputRefusedError: malformed table, a subject (and session) that comes twice.
    """
    table = read_table(path)
    subject = need_column(table, ("participant_id", "subject", "subject_id"))
    session = find_column(table, ("session", "session_id"))
    columns = tuple(c for c in table.columns if c not in (subject, session))
    parsed = {c: _parse([row[c] for _, row in table.rows]) for c in columns}
    rows: dict[tuple[str, str | None], dict[str, Value]] = {}
    seen: dict[tuple[str, str | None], int] = {}
    for i, (line, row) in enumerate(table.rows):
        name = bare(row[subject], "sub")
        if name.lower() in _NONE:
            raise InputRefusedError(
                f"{path}: line {line}: column {subject}: wanted a subject, got none"
            )
        when = bare(row[session], "ses") if session else ""
        key = (name, None if when.lower() in _NONE else when)
        if key in seen:
            raise InputRefusedError(
                f"{path}: line {line}: column {subject}: wanted {row[subject]} once, "
                f"got it on line {seen[key]} too"
            )
        seen[key] = line
        rows[key] = {column: parsed[column][i] for column in columns}
    return Labels(columns, rows)


def label_scans(
    sources: list[Source], labels: str | Path | None
) -> list[dict[str, Value]]:
    """Gives the labels of every scan; logs how many the table does not have."""
    if labels is None:
        return [{} for _ in sources]
    table = read_labels(labels)
    empty: dict[str, Value] = dict.fromkeys(table.columns)
    found = [table.of(source.subject, source.session) for source in sources]
    missing = [s.path for s, row in zip(sources, found, strict=True) if not row]
    if missing and table.columns:
        log.warning(
            "%s: %d of %d scans have no row, such as %s",
            *(labels, len(missing), len(sources), missing[0]),
        )
    return [row or empty for row in found]


def _parse(texts: list[str]) -> list[Value]:
    known = [None if text.lower() in _NONE else text for text in texts]
    numbers = [text and _number(text) for text in known]
    if any(n is None and t is not None for n, t in zip(numbers, known, strict=True)):
        return list(known)
    return list(numbers)


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
