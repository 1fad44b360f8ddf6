"""The elements of a DICOM file: read quietly, told from noise, taken as they are."""

import logging
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainjax.errors import InputRefusedError, MissingExtraError

_LOCK = threading.RLock()


def looks_like_dicom(path: str | Path) -> bool:
    """Tells DICOM by the first bytes: "DICM" at 128, or a data set without preamble."""
    start = _start(path, 132)
    if start[128:] == b"DICM":
        return True
    # Group 0002 or 0008, its element small, then a length or a value representation.
    return (
        len(start) == 132
        and start[:1] in (b"\x02", b"\x08")
        and start[1:4]
        in (
            *(b"\x00\x00\x00", b"\x00\x01\x00", b"\x00\x05\x00", b"\x00\x08\x00"),
            *(b"\x00\x12\x00", b"\x00\x16\x00"),
        )
    )


def kind_of_file(path: str | Path) -> str:
    """Gives what a file that is no DICOM looks like, by its first bytes."""
    start = _start(path, 512)
    for head, kind in ((b"PK", "a zip archive"), (b"\x1f\x8b", "a gzip file")):
        if start.startswith(head):
            return kind
    if not start:
        return "an empty file"
    # What ends in the middle of a character is text all the same.
    text = start.decode("utf-8", "ignore")
    known = all(c.isprintable() or c.isspace() for c in text)
    return "text" if known and len(text.encode()) > len(start) - 4 else "other bytes"


def has_preamble(path: str | Path) -> bool:
    """Tells whether a file says itself that it is DICOM."""
    return _start(path, 132)[128:] == b"DICM"


def _start(path: str | Path, count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps pydicom's warnings in: they quote header values, names among them."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("pydicom")
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before


def read_data(path: str | Path, tags: tuple[str, ...], source: Any = None) -> Any:
    """Gives the named elements of a DICOM file (or of its bytes, in `source`).

    All but the pixels where none is named.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError("pydicom", "scanner") from None
    try:
        if source is None and _is_deflated(path):
            raise InputRefusedError(
                f"{path}: wanted a transfer syntax of images, got a deflated data set"
            )
        target = str(path) if source is None else source
        pixels = "PixelData" in tags
        return pydicom.dcmread(
            target,
            force=True,
            stop_before_pixels=not pixels,
            specific_tags=list(tags) or None,
        )
    except InputRefusedError:
        raise
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a readable file, got {error.strerror or 'an early end'}"
        ) from None
    except Exception as error:  # what pydicom meets in a damaged header is open-ended
        raise InputRefusedError(
            f"{path}: wanted a DICOM header, got a damaged one ({type(error).__name__})"
        ) from None


def _is_deflated(path: str | Path) -> bool:
    return b"1.2.840.10008.1.2.1.99" in _start(path, 2048)


def text_of(data: Any, keyword: str) -> str:
    """Gives an element as text, its values joined by a backslash; "" if absent."""
    try:
        value = data.get(keyword)
    except Exception:  # a value that its representation does not allow
        return ""
    if value is None or isinstance(value, bytes):
        return ""
    many = not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if many else str(value).strip()


def number(data: Any, keyword: str, count: int = 1) -> tuple[float, ...] | None:
    """Gives an element as that many finite numbers; None if it is not."""
    try:
        value = data.get(keyword)
        values = value if count > 1 else (value,)
        found = tuple(float(v) + 0.0 for v in values)  # -0 and 0 are one
    except Exception:  # absent, empty or no number
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def one(data: Any, keyword: str) -> float | None:
    """Gives an element as one finite number; None if it is not."""
    found = number(data, keyword)
    return found[0] if found else None
