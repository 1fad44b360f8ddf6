"""A file of named arrays, opened without reading them."""

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import shown

MAX_TENSOR = 16 * 2**30
"""Bytes of one array that is read."""
MAX_REPEATED = 64 * 2**20
"""Bytes of one array that shows some of its values more than once."""

MAX_AXES = 32
MAX_KEY = 500


class TensorInfo(NamedTuple):
    """What a file says of an array; `dtype` is NumPy's name, or "bfloat16"."""

    shape: tuple[int, ...]
    dtype: str


class Place(NamedTuple):
    """Where an array lies: elements of `dtype`, strided, in bytes of a file.

    Attributes:
        dtype: name, as `TensorInfo` has it.
        start, size: the bytes of the storage in the file.
        offset: of the first element, in elements; shape; strides, in elements.
    """

    dtype: str
    start: int
    size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """Named arrays in a file; opening it read none of them.

    Attributes:
        path: of the file.
        kind: "torch zip", "torch legacy" or "safetensors".
        tensors: shape and dtype by flat key, in the file's order.
        facts: what else its top level holds, as plain values; "container" is the key
            that the state dict was found under ("" for the top level), "left out" the
            keys whose values are neither arrays of it nor plain.
        give: reads the array of a key.
        place: of a key, equal for arrays that are one.
    """

    path: Path
    kind: str
    tensors: dict[str, TensorInfo]
    facts: dict[str, Any]
    give: Callable[[str], np.ndarray] = field(repr=False)
    place: Callable[[str], Any] = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hex digest of the whole file, computed on each call."""
        with named(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, key: str) -> np.ndarray:
        """Gives one array in its own dtype, reading no other.

        Raises:
            InputRefusedError: no such key, or the file changed since it was opened.
        """
        with named(self.path):
            if key not in self.tensors:
                raise InputRefusedError(f"has no array {key!r}")
            return self.give(key)

    def is_shared(self, a: str, b: str) -> bool:
        """Says whether two keys are one array: same storage, offset and strides."""
        return self.place(a) == self.place(b)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the file's name before what is refused inside, on one line."""
    try:
        yield
    except InputRefusedError as error:
        raise InputRefusedError(f"{path}: {error}") from None
    except OSError as error:
        raise InputRefusedError(f"{path}: {error.strerror or error}") from None


def to_dtype(name: str) -> np.dtype:
    """Gives the NumPy dtype of a name that `TensorInfo` may hold."""
    return np.dtype(getattr(ml_dtypes, name, name))


def check_key(key: Any) -> None:
    """Refuses a name that a table could not print on its line."""
    if type(key) is not str or not key.isprintable() or len(key) > MAX_KEY:
        raise InputRefusedError(
            f"wanted printable names of at most {MAX_KEY} letters, got {shown(key)}"
        )


def check_place(place: Place) -> None:
    """Refuses an array that leaves its storage, or is too large to be one."""
    dtype, _, size, offset, shape, strides = place
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise InputRefusedError(
            "wanted sizes, strides and an offset from 0 up, got "
            f"{_few(shape)}, {_few(strides)} and {_few((offset,))}"
        )
    if len(shape) != len(strides) or len(shape) > MAX_AXES:
        raise InputRefusedError(
            f"wanted a stride for each of at most {MAX_AXES} axes, got {len(shape)} "
            f"sizes and {len(strides)} strides"
        )
    itemsize, count = to_dtype(dtype).itemsize, math.prod(shape)
    # NumPy bounds the other sizes of an empty array too.
    wanted = math.prod(n for n in shape if n) * itemsize
    if wanted > MAX_TENSOR or (wanted > size and wanted > MAX_REPEATED):
        raise InputRefusedError(
            f"an array of {_few(shape)} {dtype} is too large for a storage of "
            f"{size} bytes"
        )
    if count and (offset + _span(place)) * itemsize > size:
        raise InputRefusedError(
            f"an array of {_few(shape)} {dtype} at {offset} with strides "
            f"{_few(strides)} leaves its storage of {size} bytes"
        )


def read_place(path: Path, place: Place) -> np.ndarray:
    """Reads an array that `check_place` let pass, from its own bytes alone."""
    dtype = to_dtype(place.dtype)
    # Any byte but 0 is true; as np.bool_ it would have to be 1.
    stored = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    if not math.prod(place.shape):
        return np.zeros(place.shape, dtype)
    start = place.start + place.offset * stored.itemsize
    if _is_dense(place):
        array = _read_bytes(path, start, math.prod(place.shape) * stored.itemsize)
        array = array.view(stored).reshape(place.shape)
    else:
        array = _map_strided(path, start, place, stored)
    return array != 0 if dtype == np.bool_ else array


def read_exactly(file: BinaryIO, start: int, count: int) -> bytes:
    """Reads `count` bytes from `start`; refused where the file ends before."""
    file.seek(start)
    data = file.read(count)
    if len(data) != count:
        raise InputRefusedError(f"wanted {count} bytes at {start}, got {len(data)}")
    return data


def _read_bytes(path: Path, start: int, count: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(start)
        data = np.fromfile(file, np.uint8, count)
    if len(data) != count:
        raise InputRefusedError(f"wanted {count} bytes at {start}, got {len(data)}")
    return data


def _map_strided(path: Path, start: int, place: Place, dtype: np.dtype) -> np.ndarray:
    # Mapped: between strided elements may lie gigabytes that nobody wants.
    length = _span(place) * dtype.itemsize
    if os.path.getsize(path) < start + length:
        raise InputRefusedError(
            f"wanted {length} bytes at {start}, the file is shorter"
        )
    mapped = np.memmap(path, np.uint8, "r", start, (length,))
    strides = tuple(step * dtype.itemsize for step in place.strides)
    view = np.ndarray(place.shape, dtype, mapped.data, strides=strides)
    return np.array(view, order="C")


def _span(place: Place) -> int:
    """Elements from the first to the last, both counted; of a non-empty array."""
    steps = zip(place.shape, place.strides, strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


def _is_dense(place: Place) -> bool:
    """Says whether the elements follow each other, the last axis fastest."""
    step = 1
    for size, stride in zip(
        reversed(place.shape), reversed(place.strides), strict=True
    ):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _few(numbers: tuple[Any, ...]) -> str:
    first = [str(n) if type(n) is int and abs(n) < 2**64 else "?" for n in numbers[:8]]
    return "[" + ", ".join(first + ["..."] * (len(numbers) > 8)) + "]"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, renamed to it when all of it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.half")
    try:
        yield half
        with half.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def make_dense(array: np.ndarray) -> np.ndarray:
    """Gives the array little-endian, the last axis fastest; copied only if it is not.

    Unlike `np.ascontiguousarray`, one without axes keeps none.
    """
    return np.array(array, array.dtype.newbyteorder("<"), order="C", copy=None)
