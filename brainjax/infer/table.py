"""Tables of answers: CSV or Parquet, written whole or not at all."""

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

from brainjax.errors import MissingExtraError

Columns = dict[str, list[Any]]


def write_table(columns: Columns, out: Path | None) -> None:
    """Writes columns of equal length to .csv or .parquet; to standard output if None.

    Raises:
      MissingExtraError: Parquet without pyarrow.
    """
    if out is None:
        sys.stdout.write(_csv(columns))
        return
    partial = out.with_name(out.name + ".partial")
    if out.suffix == ".parquet":
        _write_parquet(columns, partial)
    else:
        partial.write_text(_csv(columns))
    os.replace(partial, out)


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _write_parquet(columns: Columns, path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
