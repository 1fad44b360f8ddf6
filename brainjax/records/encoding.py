"""The bytes of one record: a header of JSON values, and the raw array behind it."""

import hashlib
import json
import zlib
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from brainjax.volume.canonical import Codes

Ids = UInt8[np.ndarray, "x y z"] | UInt16[np.ndarray, "x y z"]
"""A raw label map, on the grid of the stored volumes."""


_MAGIC = b"BJX1"
_STORED = {
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}
"""How a recipe's storage, or a label map, lies in a record."""


def encode_record(codes: Codes | Ids, facts: dict) -> bytes:
    """Gives the bytes of one record: magic, header length, JSON header, raw codes.

    The header holds `facts` (JSON values), shape, crc32 and sha256 of the codes, and
    dtype where it is not uint8.
    """
    storage = codes.dtype.name
    raw = np.ascontiguousarray(codes, dtype=_STORED[storage]).tobytes()
    header = {
        **facts,
        "shape": list(codes.shape),
        "crc32": zlib.crc32(raw),
        "codes_sha256": hashlib.sha256(raw).hexdigest(),
    }
    if storage != "uint8":
        header["dtype"] = storage
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    if storage != "uint8":
        text += b" " * (-len(text) % 8)  # Numbers of several bytes begin aligned.
    return _MAGIC + len(text).to_bytes(4, "little") + text + raw


def decode_record(payload: bytes) -> tuple[Any, dict]:
    """Gives the codes and the header of a record; ValueError when it is damaged."""
    if payload[:4] != _MAGIC:
        raise ValueError("no record of brainjax")
    start = 8 + int.from_bytes(payload[4:8], "little")
    header = json.loads(payload[8:start])
    raw = memoryview(payload)[start:]
    if zlib.crc32(raw) != header["crc32"]:
        raise ValueError(f"wanted crc32 {header['crc32']}, got {zlib.crc32(raw)}")
    stored = _STORED[header.get("dtype", "uint8")]
    return np.frombuffer(raw, stored).reshape(header["shape"]), header


def encode_label_map(ids: Ids, facts: dict) -> bytes:
    """Gives the bytes of a label map: a compressed record, a fiftieth of its size."""
    return zlib.compress(encode_record(ids, facts), 1)


def decode_label_map(payload: bytes) -> tuple[Ids, dict]:
    """Gives ids and header of a label map; ValueError when it is damaged."""
    try:
        return decode_record(zlib.decompress(payload))
    except zlib.error as error:
        raise ValueError(str(error)) from None
