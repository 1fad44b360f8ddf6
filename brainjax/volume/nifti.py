"""The bytes of a NIfTI file: read once, hashed, bounded, checked to the last one."""

import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from brainjax.errors import InputRefusedError

MAX_VOXELS = 1024**3
"""A declared size above this is refused before anything of that size is made."""

_MAX_TRAILING = 64 * 2**20
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_SINGLE_FILE_MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}


class NiftiFile(NamedTuple):
    """A NIfTI file in memory: header, stored values and the hash of the file."""

    header: nib.Nifti1Header
    stored: np.ndarray
    slope: float
    intercept: float
    sha256: str


def read_nifti(path: str | Path) -> NiftiFile:
    """Gives header and stored (unscaled) values of a `.nii` or `.nii.gz` file.

    Raises InputRefusedError where the file is absent, unreadable, empty, truncated,
    damaged, not NIfTI, too large, or its values are complex or coloured. The gzip
    checksum is verified.
    """
    path = Path(path)
    raw = read_bytes(path)
    zipped = path.name.lower().endswith(".gz")
    header = _header_of(path, raw, zipped)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    offset, count = int(header.get_data_offset()), int(np.prod(shape))
    wanted = offset + count * dtype.itemsize
    body, _ = _unzip(path, raw, wanted, to_end=True) if zipped else (raw, 0)
    if len(body) < wanted:
        raise InputRefusedError(
            f"{path}: truncated: wanted {wanted} bytes for {shape} {dtype}, "
            f"got {len(body)}"
        )
    stored = np.frombuffer(body, dtype, count, offset).reshape(shape, order="F")
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputRefusedError(f"{path}: damaged NIfTI header: {error}") from None
    return NiftiFile(
        header,
        stored,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        hashlib.sha256(raw).hexdigest(),
    )


def read_header(path: str | Path) -> nib.Nifti1Header:
    """Gives the header alone, in which the values' type and number were checked.

    Raises InputRefusedError as `read_nifti` does, but for what only the values show.
    """
    path = Path(path)
    return _header_of(path, read_bytes(path), path.name.lower().endswith(".gz"))


def _header_of(path: Path, raw: bytes, zipped: bool) -> nib.Nifti1Header:
    if zipped and raw[:2] != b"\x1f\x8b":
        raise InputRefusedError(f"{path}: wanted a gzip stream, got {raw[:8]!r}")
    head, _ = _unzip(path, raw, 540) if zipped else (raw[:540], 0)
    header = _parse_header(path, head)
    _check_layout(path, header)
    return header


def read_bytes(path: Path) -> bytes:
    """Gives the bytes of a `.nii` or `.nii.gz` file; refuses what cannot be one."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputRefusedError(
            f"{path}: wanted a .nii or .nii.gz file, got {path.suffix or 'no suffix'!r}"
        )
    try:
        if path.is_dir():
            raise InputRefusedError(f"{path}: wanted a file, got a folder")
        size = path.stat().st_size
        if size > 8 * MAX_VOXELS + _MAX_TRAILING:
            raise InputRefusedError(
                f"{path}: wanted a scan, got a file of {size} bytes"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputRefusedError(f"{path}: wanted a file, got no such file") from None
    except OSError as error:
        raise InputRefusedError(
            f"{path}: wanted a readable file, got {error.strerror}"
        ) from None
    if not raw:
        raise InputRefusedError(f"{path}: wanted a NIfTI file, got an empty file")
    return raw


def _unzip(
    path: Path, raw: bytes, wanted: int, *, to_end: bool = False
) -> tuple[bytes, int]:
    """Gives the first `wanted` unzipped bytes and the count of those behind them.

    With `to_end` the stream is read to its end, which verifies its checksum.
    """
    parts, have, surplus = [], 0, 0
    engine = zlib.decompressobj(31)
    rest = raw
    try:
        while rest and (to_end or have < wanted):
            room = wanted - have if have < wanted else 2**20
            part = engine.decompress(rest, room)
            rest = engine.unconsumed_tail
            if have < wanted:
                parts.append(part)
                have += len(part)
            else:
                surplus += len(part)
            if surplus > _MAX_TRAILING:
                raise InputRefusedError(
                    f"{path}: wanted {wanted} bytes, got more than {_MAX_TRAILING} "
                    "behind them"
                )
            if engine.eof:
                # Parallel zippers write several members one after another;
                # padding behind the last one is not a member.
                rest = engine.unused_data
                if not rest.startswith(b"\x1f\x8b"):
                    break
                engine = zlib.decompressobj(31)
    except zlib.error as error:
        raise InputRefusedError(f"{path}: damaged gzip stream: {error}") from None
    if to_end and not engine.eof:
        raise InputRefusedError(
            f"{path}: truncated gzip stream: wanted {wanted} bytes and a checksum, "
            f"got {have} bytes"
        )
    return b"".join(parts), surplus


def _parse_header(path: Path, head: bytes) -> nib.Nifti1Header:
    for order in ("little", "big"):
        size = int.from_bytes(head[:4], order)
        if size not in _HEADERS or len(head) < size:
            continue
        start, magic = _SINGLE_FILE_MAGIC[size]
        if head[start : start + 4] != magic:
            break
        try:
            return _HEADERS[size](head[:size])
        except (HeaderDataError, ValueError) as error:
            raise InputRefusedError(
                f"{path}: damaged NIfTI header: {' '.join(str(error).split())}"
            ) from None
    raise InputRefusedError(
        f"{path}: wanted a single-file NIfTI header, got {head[:8]!r} "
        f"({len(head)} bytes read)"
    )


def _check_layout(path: Path, header: nib.Nifti1Header) -> None:
    """Refuses value types and sizes before their bytes are asked for."""
    try:
        dtype, shape = header.get_data_dtype(), header.get_data_shape()
    except HeaderDataError as error:
        raise InputRefusedError(f"{path}: damaged NIfTI header: {error}") from None
    if dtype.fields or dtype.kind not in "iuf":
        kind = "colour (RGB)" if dtype.fields else f"{dtype.name}"
        raise InputRefusedError(f"{path}: wanted real grey values, got {kind}")
    if not shape or any(n < 1 for n in shape):
        raise InputRefusedError(f"{path}: wanted a 3D volume, got shape {shape}")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > MAX_VOXELS:
        raise InputRefusedError(
            f"{path}: wanted at most {MAX_VOXELS} voxels, got {voxels} {shape}"
        )
