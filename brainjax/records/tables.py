"""Tables people write by hand: read strictly, refused with the line that is wrong."""

import csv
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Delimiter of a table, by its suffix."""


class Table(NamedTuple):
    """The rows of a table as text: `(line number, column -> value)`."""

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]


def read_table(path: str | Path) -> Table:
    """Gives the rows of a .csv or .tsv file, values stripped of outer blanks.

    Raises:
      InputRefusedError: missing, not text, no header, a repeated or unnamed column, a
        row with another number of values than the header.
    """
    path = Path(path)
    if path.suffix.lower() not in DELIMITERS:
        raise InputRefusedError(f"{path}: wanted .csv or .tsv, got {path.suffix!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a table, got {error.strerror}"
        ) from None
    except UnicodeDecodeError as error:
        raise InputRefusedError(f"{path}: wanted UTF-8 text, got {error}") from None
    lines = csv.reader(text.splitlines(), delimiter=DELIMITERS[path.suffix.lower()])
    try:
        cells = [(lines.line_num, [c.strip() for c in row]) for row in lines]
    except csv.Error as error:
        raise InputRefusedError(f"{path}: line {lines.line_num}: {error}") from None
    cells = [(number, row) for number, row in cells if any(row)]
    if not cells:
        raise InputRefusedError(f"{path}: wanted a header line, got an empty table")
    columns = _columns(path, *cells[0])
    return Table(path, columns, [_row(path, columns, *cell) for cell in cells[1:]])


def find_column(table: Table, names: tuple[str, ...]) -> str | None:
    """Gives the first column called one of `names` (any case), or None."""
    found = {column.lower(): column for column in reversed(table.columns)}
    return next((found[name] for name in names if name in found), None)


def need_column(table: Table, names: tuple[str, ...]) -> str:
    """Gives the column called one of `names`; InputRefusedError when there is none."""
    column = find_column(table, names)
    if column is None:
        raise InputRefusedError(
            f"{table.path}: line 1: wanted a column {' or '.join(names)}, got "
            f"{', '.join(table.columns)}"
        )
    return column


def _columns(path: Path, line: int, names: list[str]) -> tuple[str, ...]:
    for position, name in enumerate(names, start=1):
        if not name:
            raise InputRefusedError(
                f"{path}: line {line}: wanted a name for column {position}, got none"
            )
        if names.count(name) > 1:
            raise InputRefusedError(
                f"{path}: line {line}: wanted each column once, got {name} "
                f"{names.count(name)} times"
            )
    return tuple(names)


def _row(
    path: Path, columns: tuple[str, ...], line: int, values: list[str]
) -> tuple[int, dict[str, str]]:
    if len(values) != len(columns):
        raise InputRefusedError(
            f"{path}: line {line}: wanted {len(columns)} values, one for each of "
            f"{', '.join(columns)}, got {len(values)}"
        )
    return line, dict(zip(columns, values, strict=True))
