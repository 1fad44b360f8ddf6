"""Makers of checkpoints, good and hostile, opcode by opcode; nothing here unpickles."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROTO = b"\x80\x02"
ONES = struct.pack("<6f", *[1] * 6)
MAGIC = 0x1950A86A20F9469CFC6C


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(data) > 255:
        return b"\x8b" + struct.pack("<i", len(data)) + data
    return b"\x8a" + bytes([len(data)]) + data


def name(path: str) -> bytes:
    module, _, last = path.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def row(*values: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def call(function: bytes, *args: bytes) -> bytes:
    return function + row(*args) + b"R"


def table(**values: bytes) -> bytes:
    """A dict."""
    return b"}(" + b"".join(text(k) + v for k, v in values.items()) + b"u"


def numbers(values: Sequence[int]) -> bytes:
    return row(*map(number, values))


def storage(
    key: str = "0", *, count: int = 6, kind: str = "torch.FloatStorage"
) -> bytes:
    return row(text("storage"), name(kind), text(key), text("cpu"), number(count))


def tensor(
    shape: Sequence[int] = (2, 3),
    strides: Sequence[int] = (3, 1),
    *,
    offset: int = 0,
    pid: bytes | None = None,
    rebuild: str = "torch._utils._rebuild_tensor_v2",
) -> bytes:
    hooks = call(name("collections.OrderedDict"))
    pid = storage() if pid is None else pid
    sizes = (number(offset), numbers(shape), numbers(strides))
    return call(name(rebuild), pid + b"Q", *sizes, b"\x89", hooks)


def state_dict(**values: bytes) -> bytes:
    """A pickle of {"state_dict": {...}}."""
    return PROTO + table(state_dict=table(**values)) + b"."


GOOD = state_dict(weight=tensor())


class Entry(NamedTuple):
    """A zip's entry; what it declares may differ from what is there.

    hole: bytes that are not written, so that a sparse file has them.
    """

    name: str
    data: bytes = b""
    hole: int = 0
    size: int | None = None
    packed: int | None = None
    method: int = 0
    offset: int | None = None


def entries(pickle: bytes = GOOD, data: bytes = ONES, **changes: bytes) -> list[Entry]:
    """The entries of a file of `torch.save`."""
    found = {"data.pkl": pickle, "byteorder": b"little", "data/0": data}
    found = {**found, "version": b"3\n", **changes}
    return [Entry(f"archive/{key}", value) for key, value in found.items()]


def write_zip(path: Path, parts: Sequence[Entry]) -> Path:
    """Writes a zip by hand, with zip64 sizes and offsets throughout."""
    directory = bytearray()
    with path.open("wb") as file:
        for part in parts:
            start = file.tell() if part.offset is None else part.offset
            label, real = part.name.encode(), len(part.data) + part.hole
            size = real if part.size is None else part.size
            packed = size if part.packed is None else part.packed
            common = struct.pack("<HHHHHI", 45, 0, part.method, 0, 33, 0)
            limits = struct.pack("<IIH", 2**32 - 1, 2**32 - 1, len(label))
            if part.offset is None:
                sizes = struct.pack("<HHQQ", 1, 16, size, packed)
                file.write(b"PK\3\4" + common + limits + struct.pack("<H", len(sizes)))
                file.write(label + sizes + part.data)
                file.seek(part.hole, 1)
            extra = struct.pack("<HHQQQ", 1, 24, size, packed, start)
            directory += b"PK\1\2" + struct.pack("<H", 45) + common + limits
            directory += struct.pack("<HHHHII", len(extra), 0, 0, 0, 0, 2**32 - 1)
            directory += label + extra
        start = file.tell()
        file.write(directory)
        ends = struct.pack("<QQQQ", len(parts), len(parts), len(directory), start)
        file.write(b"PK\6\6" + struct.pack("<QHHII", 44, 45, 45, 0, 0) + ends)
        file.write(b"PK\6\7" + struct.pack("<IQI", 0, start + len(directory), 1))
        file.write(
            b"PK\5\6"
            + struct.pack("<HHHHIIH", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0)
        )
    return path


def write_pickle(path: Path, pickle: bytes, data: bytes = ONES) -> Path:
    """Writes a file of `torch.save` around a pickle."""
    return write_zip(path, entries(pickle, data))


def legacy(
    pickle: bytes | None = None,
    *,
    magic: int = MAGIC,
    protocol: int = 1001,
    little: bytes = b"\x88",
    keys: Sequence[str] = ("0",),
    count: int = 6,
    data: bytes = ONES,
) -> bytes:
    """A file as `torch.save` wrote them before PyTorch 1.6."""
    pickle = (
        state_dict(weight=tensor(pid=legacy_storage())) if pickle is None else pickle
    )
    system = table(protocol_version=number(protocol), little_endian=little)
    listed = b"](" + b"".join(map(text, keys)) + b"e"
    heads = [number(magic), number(protocol), system]
    start = b"".join(PROTO + head + b"." for head in heads)
    raw = b"".join(struct.pack("<q", count) + data for _ in keys)
    return start + pickle + PROTO + listed + b"." + raw


def legacy_storage(view: bytes = b"N", *, count: int = 6) -> bytes:
    kind = name("torch.FloatStorage")
    return row(text("storage"), kind, text("0"), text("cpu"), number(count), view)


def safetensors(header: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + data


def described(dtype: str, shape: Sequence[int], first: int, last: int) -> str:
    """An array's part of a safetensors header."""
    place = f'"shape":{list(shape)},"data_offsets":[{first},{last}]'
    return f'{{"dtype":"{dtype}",{place}}}'
