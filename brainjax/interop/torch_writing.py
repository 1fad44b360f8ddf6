"""Writes PyTorch's zip files without PyTorch."""

import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.tensors import make_dense, named, replacing
from brainjax.interop.torch_records import STORAGES

ALIGNMENT = 64
"""Bytes that storages start at a multiple of, so that PyTorch can map them."""

# By dtype; the untyped storage has one that another class has already.
CLASSES = {dtype: name for name, dtype in STORAGES.items() if name != "UntypedStorage"}


def write_torch(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    *,
    facts: Mapping[str, Any] | None = None,
    container: str = "state_dict",
) -> None:
    """Writes arrays as `torch.save` does; `torch.load(weights_only=True)` reads them.

    The same input gives the same bytes.

    Args:
        path: to write; whole or absent.
        tensors: arrays by key, in the order to write.
        facts: plain values beside the state dict: None, text, numbers, lists, dicts.
        container: key of the state dict; "" puts the arrays at the top level.

    Raises:
        InputRefusedError: a dtype that PyTorch's storages have not, a fact that is not
            plain or has the state dict's name, or a place that cannot be written.
    """
    path, facts = Path(path), dict(facts or {})
    arrays = {key: np.asarray(array) for key, array in tensors.items()}
    taken = facts.keys() & ({container} if container else arrays.keys())
    with named(path):
        if taken:
            raise InputRefusedError(f"the fact {min(taken)!r} has a state dict's name")
        top = {**facts, container: _Tensors(arrays)} if container else None
        data = b"\x80\x02" + _pickle(top or _Tensors(arrays, facts)) + b"."
        with replacing(path) as half, zipfile.ZipFile(half, "w") as archive:
            _write_entry(archive, "data.pkl", data)
            _write_entry(archive, "byteorder", b"little")
            for number, array in enumerate(arrays.values()):
                _write_entry(archive, f"data/{number}", _bytes(array))
            _write_entry(archive, "version", b"3\n")


class _Tensors:
    """A state dict to pickle, and facts beside it."""

    def __init__(self, arrays: dict[str, np.ndarray], facts: dict | None = None):
        self.arrays, self.facts = arrays, facts or {}


def _bytes(array: np.ndarray) -> memoryview:
    return make_dense(array).reshape(-1).view(np.uint8).data


def _write_entry(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    # A fixed date, so that equal content is an equal file.
    info = zipfile.ZipInfo(f"archive/{name}")
    large = len(data) >= zipfile.ZIP64_LIMIT
    file: IO[bytes] | Any = archive.fp
    header = file.tell() + 30 + len(info.filename) + 20 * large
    # An extra field "FB" of zeros, as PyTorch's own files have.
    length = -(header + 4) % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", length) + bytes(length)
    with archive.open(info, "w", force_zip64=large) as entry:
        entry.write(data)


def _pickle(value: Any) -> bytes:
    """Gives the opcodes (protocol 2) that push a value."""
    if value is None:
        return b"N"
    if isinstance(value, bool | np.bool_):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int | np.integer):
        return _integer(int(value))
    if isinstance(value, float | np.floating):
        return b"G" + struct.pack(">d", float(value))
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, Mapping):
        return b"}(" + _items(value) + b"u"
    if isinstance(value, list | tuple):
        return b"](" + b"".join(map(_pickle, value)) + b"e"
    if isinstance(value, _Tensors):
        numbered = enumerate(value.arrays.items())
        tensors = [_pickle(key) + _tensor(n, array) for n, (key, array) in numbered]
        start = b"ccollections\nOrderedDict\n)R("
        return start + _items(value.facts) + b"".join(tensors) + b"u"
    kind = type(value).__name__
    raise InputRefusedError(f"wanted plain facts (text, numbers, lists), got a {kind}")


def _items(mapping: Mapping[Any, Any]) -> bytes:
    return b"".join(_pickle(key) + _pickle(value) for key, value in mapping.items())


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > 255:
        raise InputRefusedError(
            "wanted integers of at most 2032 bits, got a longer one"
        )
    return b"\x8a" + bytes([len(data)]) + data


def _tensor(number: int, array: np.ndarray) -> bytes:
    name = CLASSES.get(array.dtype.name)
    if name is None:
        raise InputRefusedError(
            f"cannot write an array of {array.dtype.name}; wanted {', '.join(CLASSES)}"
        )
    storage = (
        b"(" + _pickle("storage") + f"ctorch\n{name}\n".encode() + _pickle(str(number))
    ) + (_pickle("cpu") + _integer(array.size) + b"tQ")
    strides = [int(np.prod(array.shape[n + 1 :])) for n in range(array.ndim)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage + _integer(0) + _tuple(array.shape) + _tuple(strides) + b"\x89")
        + b"ccollections\nOrderedDict\n)RtR"
    )


def _tuple(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
