"""Tables of answers: CSV or Parquet, written whole or not at all."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

from brainjax.errors import MissingExtraError
from brainjax.records.writing import write_file

Columns = dict[str, list[Any]]


def write_table(columns: Columns, out: Path | None) -> None:
    """Writes columns of equal length to .csv or .parquet; to standard output if None.

    Raises:
      MissingExtraError: Parquet without pyarrow.
      InputRefusedError: the file cannot be written.
    """
    if out is None:
        sys.stdout.write(_csv(columns))
        return
    parquet = out.suffix == ".parquet"
    data = _parquet(columns) if parquet else _csv(columns).encode()
    write_file(out, data)


def _csv(columns: Columns) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _parquet(columns: Columns) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), data)
    return data.getvalue()
