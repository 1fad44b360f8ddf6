"""A few arrays and facts in one .npz that knows when it was damaged; no pickle."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainjax.records.writing import write_atomically

SEAL, FACTS = "sha256", "facts"


class DamagedFileError(ValueError):
    """A file that is not what was written; the message says how."""


def write_sealed(
    path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Writes JSON facts and numbers, whole or not at all; equal ones as equal bytes."""
    text = json.dumps(dict(facts), sort_keys=True).encode()
    stored: dict[str, Any] = {k: np.asarray(v) for k, v in arrays.items()}
    stored[FACTS] = np.frombuffer(text, np.uint8)
    stored[SEAL] = _digest(stored)
    data = io.BytesIO()
    np.savez(data, **stored)
    write_atomically(path, data.getvalue())


def read_sealed(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `write_sealed` wrote.

    Raises:
      DamagedFileError: there is no such file, or it is another than was written.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if not np.array_equal(arrays.pop(SEAL), _digest(arrays)):
            raise ValueError("its sha256 is another")
        return dict(json.loads(arrays.pop(FACTS).tobytes())), arrays
    except FileNotFoundError:
        raise DamagedFileError("there is no such file") from None
    except Exception as error:  # of a zip or .npy header with any bytes in it
        raise DamagedFileError(" ".join(str(error).split())[:200]) from None


def _digest(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The sha256 of arrays, their names and shapes, as 32 bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return np.frombuffer(found.digest(), np.uint8)
