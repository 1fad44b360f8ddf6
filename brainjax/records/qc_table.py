"""qc.tsv: one row a scan, every measure, and why it was flagged."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.records.flags import MEASURES
from brainjax.records.tables import read_table
from brainjax.records.writing import write_file

PLACES = ("source", "subject", "session", "sequence", "key")
"""What says which scan a row is of, before the measures."""

REASONS = ("flags", "doubts")
"""Lists of words after them."""

MISSING = "n/a"

_BREAKS = re.compile(r"[\t\n\r\x00-\x1f\x7f\x85\u2028\u2029]")


def write_qc_table(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the quality table, whole or not at all.

    Args:
      path: .tsv to write; it is replaced.
      rows: a dict a scan: source, subject, session, sequence, key, the measures by
        name, flags and doubts (each a tuple of words). What is missing or None is
        "n/a"; further entries are left out.

    Raises:
      InputRefusedError: the file cannot be written.
    """
    path = Path(path)
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow([*PLACES, *MEASURES, *REASONS])
    for row in rows:
        places = [_word(row.get(name)) for name in PLACES]
        numbers = [show_number(row.get(name)) for name in MEASURES]
        reasons = [_word("; ".join(row.get(name) or ())) for name in REASONS]
        table.writerow([*places, *numbers, *reasons])
    # Names of files may hold bytes that are no text.
    write_file(path, text.getvalue().encode("utf-8", "backslashreplace"))
    return path


def show_number(value: float | None) -> str:
    """Gives a measure in a table: six digits, "n/a" where there is none."""
    return MISSING if value is None else f"{value:.6g}"


def _word(value: Any) -> str:
    """One cell: nothing in it ends the cell or the line."""
    return _BREAKS.sub(" ", str(value)) if value else MISSING


def read_qc_table(path: str | Path) -> list[dict[str, Any]]:
    """Gives the rows that `write_qc_table` wrote; measures are numbers or None.

    Raises:
      InputRefusedError: no such file, or another table.
    """
    table = read_table(Path(path))
    try:
        return [_read_row(row) for _, row in table.rows]
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputRefusedError(
            f"{path}: wanted the quality table of `prepare`, got another: {reason}"
        ) from None


def _read_row(row: Mapping[str, str]) -> dict[str, Any]:
    known = {name: None if word == MISSING else word for name, word in row.items()}
    numbers = {name: known[name] and float(row[name]) for name in MEASURES}
    reasons = {name: tuple((known[name] or "").split("; ")) for name in REASONS}
    reasons = {name: tuple(filter(None, words)) for name, words in reasons.items()}
    return {**known, **numbers, **reasons}
