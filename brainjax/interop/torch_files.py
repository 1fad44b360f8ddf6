"""Opens PyTorch's files without PyTorch: the zip, and the format before 1.6."""

import io
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import shown
from brainjax.interop.pickles import MAX_BYTES, load_pickle
from brainjax.interop.state_dicts import choose_state_dict
from brainjax.interop.tensors import (
    Place,
    TensorFile,
    TensorInfo,
    check_place,
    read_exactly,
    read_place,
    to_dtype,
)
from brainjax.interop.torch_records import CALLS, Storage, Tensor, make_storage

MAX_DIRECTORY = 4 * 2**20
"""Bytes of a zip's directory: some 40,000 entries."""
VERSIONS = range(1, 11)
"""Of the zip layout, as PyTorch counts them."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class Region(NamedTuple):
    """Bytes of a file."""

    start: int
    size: int


def open_zip(path: Path) -> TensorFile:
    """Opens what `torch.save` writes since PyTorch 1.6.

    Raises:
        InputRefusedError: not such a file, damaged, or made to do harm. The message
            does not name the file.
    """
    with path.open("rb") as file:
        entries = _find_entries(path, file)
        root = _find_root(entries)
        order = _read_entry(file, entries.get(f"{root}/byteorder"), 16)
        if order not in (b"", b"little"):
            raise InputRefusedError(f"wanted byte order 'little', got {shown(order)}")
        version = _read_entry(file, entries.get(f"{root}/version"), 16).strip()
        if not version.isdigit() or int(version) not in VERSIONS:
            raise InputRefusedError(f"wanted version 1 to 10, got {shown(version)}")
        data = _read_entry(file, entries[f"{root}/data.pkl"], MAX_BYTES)
    top, _ = load_pickle(data, calls=CALLS, persistent=make_storage)
    regions = {
        name.removeprefix(f"{root}/data/"): region
        for name, region in entries.items()
        if name.startswith(f"{root}/data/")
    }
    return _open(path, "torch zip", top, regions)


def open_legacy(path: Path) -> TensorFile:
    """Opens what `torch.save` wrote before PyTorch 1.6: pickles, then raw storages.

    Raises:
        InputRefusedError: as `open_zip`.
    """
    storages: dict[str, Storage] = {}

    def note(identity: Any) -> Any:
        made = make_storage(identity)
        if isinstance(made, Storage):
            first = storages.setdefault(made.key, made)
            if (made.dtype, made.count) != (first.dtype, first.count):
                raise InputRefusedError(f"storage {shown(made.key)} is described twice")
        return made

    with path.open("rb") as file:
        data = file.read(MAX_BYTES)
        top, end = load_pickle(data, _legacy_start(data), calls=CALLS, persistent=note)
        keys, end = load_pickle(data, end)
        regions = _find_storages(file, keys, storages, end)
    return _open(path, "torch legacy", top, regions)


def _open(path: Path, kind: str, top: Any, regions: Mapping[str, Region]) -> TensorFile:
    tensors, facts = choose_state_dict(top)
    places = {}
    for key, tensor in tensors.items():
        try:
            places[key] = _find_place(tensor, regions)
        except InputRefusedError as error:
            raise InputRefusedError(f"{shown(key)}: {error}") from None
    infos = {key: TensorInfo(at.shape, at.dtype) for key, at in places.items()}

    def give(key: str) -> np.ndarray:
        return read_place(path, places[key])

    return TensorFile(path, kind, infos, facts, give, places.__getitem__)


def _find_place(tensor: Tensor, regions: Mapping[str, Region]) -> Place:
    storage = tensor.storage
    if storage.key not in regions:
        raise InputRefusedError(f"the file has no storage {shown(storage.key)}")
    start, size = regions[storage.key]
    itemsize = to_dtype(storage.dtype).itemsize
    if storage.count * itemsize > size:
        raise InputRefusedError(
            f"wanted a storage of {storage.count} {storage.dtype}, got {size} bytes"
        )
    start, size = start + storage.start * itemsize, storage.length * itemsize
    shape, strides = tensor.shape, tensor.strides
    place = Place(tensor.dtype, start, size, tensor.offset, shape, strides)
    check_place(place)
    return place


class _Bounded(io.BufferedReader):
    """A file that gives at most a directory's bytes at once: `zipfile` asks for as
    many as the file says."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MAX_DIRECTORY + 1
        data = super().read(wanted if size is None or size < 0 else min(size, wanted))
        if len(data) == wanted:
            raise InputRefusedError(f"its zip directory is over {MAX_DIRECTORY} bytes")
        return data


def _find_entries(path: Path, file: BinaryIO) -> dict[str, Region]:
    """Gives where each entry's bytes lie, after `zipfile` read the directory."""
    try:
        with _Bounded(io.FileIO(path)) as bounded, zipfile.ZipFile(bounded) as archive:
            infos = archive.infolist()
    except InputRefusedError:
        raise
    except Exception as error:  # of many kinds: whatever a broken directory leads to
        line = str(error).partition("\n")[0]
        raise InputRefusedError(
            f"its zip is damaged or cut off ({shown(line)})"
        ) from None
    if any(info.filename.endswith("/constants.pkl") for info in infos):
        raise InputRefusedError("wanted a state dict, got a TorchScript program")
    entries, last, end = {}, 0, os.fstat(file.fileno()).st_size
    for info in sorted(infos, key=lambda info: info.header_offset):
        _check_entry(info)
        if info.filename in entries:
            raise InputRefusedError(f"its zip has {shown(info.filename)} twice")
        region = _locate(file, info, end)
        if info.header_offset < last or region.start + region.size > end:
            raise InputRefusedError(
                f"its zip entry {shown(info.filename)} of {region.size} bytes overlaps "
                "another or leaves the file"
            )
        last = region.start + region.size
        entries[info.filename] = region
    return entries


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    parts = name.split("/")
    if ".." in parts or name.startswith("/") or set(name) & set("\\:\0"):
        raise InputRefusedError(f"its zip has an entry that leaves it: {shown(name)}")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise InputRefusedError(
            f"its zip entry {shown(name)} is compressed or locked, wanted it stored"
        )
    if info.file_size != info.compress_size:
        raise InputRefusedError(
            f"its zip entry {shown(name)} declares {info.file_size} bytes and has "
            f"{info.compress_size}"
        )


def _locate(file: BinaryIO, info: zipfile.ZipInfo, end: int) -> Region:
    """Finds an entry's bytes behind its own header."""
    name = shown(info.filename)
    if not 0 <= info.header_offset < end:
        raise InputRefusedError(f"its zip entry {name} starts outside the file")
    header = read_exactly(file, info.header_offset, 30)
    magic, method, name_length, extra_length = struct.unpack("<4s4xH16xHH", header)
    if magic != b"PK\3\4" or method != zipfile.ZIP_STORED:
        raise InputRefusedError(f"its zip entry {name} has no header, or another one")
    start = info.header_offset + len(header) + name_length + extra_length
    return Region(start, info.file_size)


def _find_root(entries: Mapping[str, Region]) -> str:
    """Gives the folder that everything of `torch.save` lies in."""
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        names = ", ".join(shown(name) for name in list(entries)[:5]) or "nothing"
        raise InputRefusedError(
            f"wanted a zip of torch.save (one data.pkl), got {len(pickles)} in {names}"
        )
    root = pickles[0].removesuffix("/data.pkl")
    strays = [name for name in entries if not name.startswith(f"{root}/")]
    if strays:
        raise InputRefusedError(f"its zip has {shown(strays[0])} outside {shown(root)}")
    return root


def _read_entry(file: BinaryIO, region: Region | None, most: int) -> bytes:
    if region is None:
        return b""
    if region.size > most:
        raise InputRefusedError(f"wanted an entry of {most} bytes, got {region.size}")
    return read_exactly(file, *region)


def _legacy_start(data: bytes) -> int:
    """Checks the three pickles before the object; gives where it starts."""
    magic, end = load_pickle(data, limit=100)
    if type(magic) is not int or magic != LEGACY_MAGIC:
        raise InputRefusedError(f"wanted a pickle of torch.save, got {shown(magic)}")
    protocol, end = load_pickle(data, end, limit=100)
    if type(protocol) is not int or protocol != LEGACY_PROTOCOL:
        raise InputRefusedError(f"wanted protocol 1001, got {shown(protocol)}")
    system, end = load_pickle(data, end, limit=1000)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise InputRefusedError("wanted byte order 'little', got another")
    return end


def _find_storages(
    file: BinaryIO, keys: Any, storages: Mapping[str, Storage], start: int
) -> dict[str, Region]:
    """Finds the storages: in the order of `keys`, each behind its count, int64."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise InputRefusedError(f"wanted a list of storages, got {shown(keys)}")
    size, regions = os.fstat(file.fileno()).st_size, {}
    for key in keys:
        if key not in storages or key in regions:
            raise InputRefusedError(f"storage {shown(key)} is unknown or there twice")
        count = int.from_bytes(read_exactly(file, start, 8), "little", signed=True)
        if count != storages[key].count:
            raise InputRefusedError(
                f"storage {shown(key)}: wanted {storages[key].count} elements, "
                f"got {count}"
            )
        regions[key] = Region(start + 8, count * to_dtype(storages[key].dtype).itemsize)
        start = sum(regions[key])
        if start > size:
            raise InputRefusedError(
                f"cut off: storage {shown(key)} ends at {start}, the file at {size}"
            )
    return regions
