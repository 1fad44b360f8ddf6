"""The clinical model: what can be told without a scan, from columns of the table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from brainjax.errors import InputRefusedError
from brainjax.tasks.labels import is_number, known, refuse_mixed


def covariates(
    labels: Callable[[str], list[Any]],
    columns: Sequence[str],
    train: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "m d"]:
    """Gives the columns of every case as numbers, to be standardised by a probe.

    Numbers stay (an unknown one is the training mean, and a column says that it is),
    words become a column for each that training knows.

    Args:
      labels: of a data set, by name.
      columns: of the table.
      train: the training cases.

    Raises:
      InputRefusedError: no column, an unknown one, or one of numbers and words.
    """
    if not columns:
        raise InputRefusedError(
            "config.inits: wanted columns for the clinical model, got none"
        )
    parts = [_column(name, labels(name), train) for name in columns]
    return np.concatenate(parts, axis=1)


def _column(name: str, values: list[Any], train) -> Float[np.ndarray, "m d"]:
    refuse_mixed(known(values), name)
    seen = [values[i] for i in train if values[i] is not None]
    unknown = np.array([[value is None] for value in values], np.float64)
    if seen and is_number(seen[0]):
        mean = float(np.mean(seen))
        numbers = [[mean if value is None else float(value)] for value in values]
        return np.concatenate([np.array(numbers), unknown], axis=1)
    words = sorted({str(value) for value in seen})
    return np.array([[str(v) == w for w in words] for v in values], np.float64).reshape(
        len(values), len(words)
    )
