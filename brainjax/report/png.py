"""PNG files of grey pictures and of outlines, by the standard library alone.

Small, and the same bytes each time: a page of a thousand scans has three thousand.
"""

import base64
import struct
import zlib

import numpy as np
from jaxtyping import Bool, UInt8

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3
"""Colour types of the PNG specification (ISO/IEC 15948)."""

UP = 2
"""The filter that stores each pixel less the one above it."""


def grey_png(pixels: UInt8[np.ndarray, "h w"]) -> bytes:
    """Gives a picture of 8 bits a pixel."""
    above = np.vstack([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = np.insert(pixels - above, 0, UP, axis=1)
    return _file(pixels.shape, 8, GREY, rows.astype(np.uint8))


def outline_png(pixels: Bool[np.ndarray, "h w"], colour: tuple[int, int, int]) -> bytes:
    """Gives a picture of one colour where `pixels` is, clear elsewhere."""
    rows = np.insert(np.packbits(pixels, axis=1), 0, 0, axis=1)
    palette = _chunk(b"PLTE", bytes([0, 0, 0, *colour])) + _chunk(b"tRNS", b"\x00\xff")
    return _file(pixels.shape, 1, PALETTE, rows, palette)


def data_uri(png: bytes) -> str:
    """Gives a PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _file(
    shape: tuple[int, ...],
    bits: int,
    kind: int,
    rows: UInt8[np.ndarray, "h bytes"],
    extra: bytes = b"",
) -> bytes:
    height, width = shape
    about = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", about), extra]
    parts += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    size, check = (
        struct.pack(">I", len(data)),
        struct.pack(">I", zlib.crc32(name + data)),
    )
    return size + name + data + check
