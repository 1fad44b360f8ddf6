"""Opens and writes safetensors files."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import shown
from brainjax.interop.tensors import (
    Place,
    TensorFile,
    TensorInfo,
    check_key,
    check_place,
    make_dense,
    named,
    read_exactly,
    read_place,
    replacing,
)

MAX_HEADER = 8 * 2**20
"""Bytes of names and shapes: some 60,000 arrays."""

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""NumPy's name, by the format's."""


def open_safetensors(path: Path) -> TensorFile:
    """Opens a safetensors file; reads its header alone.

    Raises:
        InputRefusedError: not such a file, damaged, or a dtype NumPy has not. The
            message does not name the file.
    """
    header, start = _read_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            keys, metadata = file.offset_keys(), file.metadata() or {}
        described = json.loads(header, object_pairs_hook=_refuse_repeats)
    except InputRefusedError:
        raise
    except Exception as error:  # the package raises its own, json others
        line = str(error).partition("\n")[0]
        raise InputRefusedError(f"damaged or cut off ({shown(line)})") from None
    places = {key: _find_place(key, described[key], start) for key in keys}
    infos = {key: TensorInfo(at.shape, at.dtype) for key, at in places.items()}
    facts = {**metadata, "container": "", "left out": []}

    def give(key: str) -> np.ndarray:
        return read_place(path, places[key])

    return TensorFile(
        path, "safetensors", infos, facts, give, lambda key: (key, places[key])
    )


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays, and texts beside them, as a safetensors file.

    Raises:
        InputRefusedError: a dtype that the format has not, metadata that is not text,
            or a place that cannot be written.
    """
    path, words = Path(path), dict(metadata or {})
    with named(path):
        for key, word in words.items():
            if type(key) is not str or type(word) is not str:
                raise InputRefusedError(f"metadata {key!r}: wanted text, got {word!r}")
        dense = {key: make_dense(np.asarray(array)) for key, array in tensors.items()}
        for key, array in dense.items():
            if array.dtype.name not in DTYPES.values():
                raise InputRefusedError(f"{key!r}: cannot write {array.dtype.name}")
        with replacing(path) as half:
            save_file(dense, str(half), metadata=words)
            half.chmod(0o644)  # the package makes files that nobody else may read


def _read_header(path: Path) -> tuple[bytes, int]:
    """Gives the header and where the arrays start."""
    with path.open("rb") as file:
        length = int.from_bytes(read_exactly(file, 0, 8), "little")
        most = min(MAX_HEADER, os.fstat(file.fileno()).st_size - 8)
        if length > most:
            raise InputRefusedError(
                f"wanted a safetensors header of at most {most} bytes, got {length}"
            )
        return read_exactly(file, 8, length), 8 + length


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise InputRefusedError(f"its header has {shown(twice)} twice")
    return found


def _find_place(key: str, described: Mapping[str, Any], start: int) -> Place:
    check_key(key)
    # The package has checked types, and that arrays tile the file without overlap.
    dtype = DTYPES.get(described["dtype"])
    if dtype is None:
        raise InputRefusedError(
            f"{shown(key)}: cannot read dtype {shown(described['dtype'])}"
        )
    first, last = described["data_offsets"]
    shape = tuple(described["shape"])
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    place = Place(dtype, start + first, last - first, 0, shape, strides)
    try:
        check_place(place)
    except InputRefusedError as error:
        raise InputRefusedError(f"{shown(key)}: {error}") from None
    return place
