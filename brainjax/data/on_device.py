"""A data set held by the accelerators: each keeps a share of the scans, as stored.

32,015 volumes of 128 cubed in uint8 are 67 GB: one large device, or a share on each of
many. A step then names the scans it wants by row number, a few bytes each.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Int, Int32, Shaped

from brainjax.data.loader import Dataset
from brainjax.data.take import take_local_rows, take_rows
from brainjax.errors import InputRefusedError

__all__ = ["OnDevice", "load_on_devices", "take_local_rows", "take_rows"]

log = logging.getLogger("brainjax")
GIB = 2**30


class OnDevice(NamedTuple):
    """Scans held by the devices of a mesh.

    volumes: uint8 or float32 [r, x, y, z], rows split over all axes of the mesh; rows:
    the row of every record of the data set, -1 where it is not held; subject_ids: of
    every record; bad: message of every damaged record, whose row is all 0 and must
    not be drawn.
    """

    volumes: Shaped[jax.Array, "r x y z"]
    rows: Int32[np.ndarray, " m"]
    subject_ids: Int32[np.ndarray, " m"]
    bad: dict[int, str]


class _Shares(NamedTuple):
    """Which records lie on which device: as evenly as can be, in order."""

    records: Int[np.ndarray, " n"]
    devices: int

    @property
    def height(self) -> int:
        """Rows of a device, those of padding among them."""
        return -(-len(self.records) // self.devices)

    def of(self, device: int) -> Int[np.ndarray, " k"]:
        first, last = ((device + i) * len(self.records) // self.devices for i in (0, 1))
        return self.records[first:last]

    def rows(self, size: int) -> Int32[np.ndarray, " m"]:
        """The row of each of `size` records, -1 where it has none."""
        rows = np.full(size, -1, dtype=np.int32)
        for device in range(self.devices):
            mine = self.of(device)
            rows[mine] = device * self.height + np.arange(len(mine))
        return rows


def load_on_devices(
    dataset: Dataset,
    indices: Int[np.ndarray, " n"],
    mesh: Mesh,
    *,
    threads: int = 4,
    chunk: int = 64,
) -> OnDevice:
    """Reads the records `indices` of a data set onto the devices of a mesh, once each.

    Every process reads what its own devices hold and no more; a host holds two chunks
    at a time. Rows are padded to a multiple of the devices. A damaged record is named
    in a warning and in `OnDevice.bad`, on every process, whichever met it.

    Raises InputRefusedError when there is nothing to read, all is damaged, or, before
    anything is loaded, when a device that states its memory has too little of it.
    """
    shares = _Shares(np.unique(np.asarray(indices, dtype=np.int64)), mesh.size)
    shape, dtype = _describe(dataset, shares.records)
    shape = (shares.height, *shape)
    local = _local_devices(mesh)
    chunk = min(chunk, shares.height)
    for _, device in local:
        _refuse_too_large(device, shape, dtype, chunk)
    bad: dict[int, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        parts = []
        for number, device in local:
            reader = _Reader(dataset, shares.of(number), shape[1:], dtype, bad, pool)
            parts.append(_fill(device, shape, dtype, reader, chunk))
    volumes = jax.make_array_from_single_device_arrays(
        (shares.height * mesh.size, *shape[1:]),
        NamedSharding(mesh, PartitionSpec(mesh.axis_names)),
        parts,
    )
    bad = _share_damage(bad, shares.records)
    _refuse_nothing(shares.records, bad)
    rows = shares.rows(len(dataset))
    return OnDevice(volumes, rows, dataset.subject_ids, bad)


def _local_devices(mesh: Mesh) -> list[tuple[int, Any]]:
    """The devices of this process, with their places in the order of the mesh."""
    mine = jax.process_index()
    return [(i, d) for i, d in enumerate(mesh.devices.flat) if d.process_index == mine]


def _describe(
    dataset: Dataset, records: Int[np.ndarray, " n"]
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a volume, from the first record that can be read."""
    reason = "no records"
    for record in records.tolist():
        try:
            volume = dataset.read(record)
        except InputRefusedError as error:
            reason = str(error)
        else:
            return volume.shape, volume.dtype
    raise InputRefusedError(f"data: wanted a readable record, got {reason}")


def _refuse_too_large(
    device: Any, shape: tuple[int, ...], dtype: np.dtype, chunk: int
) -> None:
    stated = device.memory_stats() or {}
    if "bytes_limit" not in stated:
        return
    free = stated["bytes_limit"] - stated.get("bytes_in_use", 0)
    needed = (shape[0] + 2 * chunk) * int(np.prod(shape[1:])) * dtype.itemsize
    if needed > free:
        raise InputRefusedError(
            f"data: wanted {needed / GIB:.1f} GiB on {device} for {shape[0]} volumes "
            f"of {'x'.join(map(str, shape[1:]))} {dtype}, got {free / GIB:.1f} GiB "
            "free; use more devices or source stream, or on a GPU let jax have more of "
            "it: XLA_PYTHON_CLIENT_MEM_FRACTION=0.95"
        )


class _Reader(NamedTuple):
    """Reads the records of one device into host memory, in threads."""

    dataset: Dataset
    records: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    bad: dict[int, str]
    pool: ThreadPoolExecutor

    def chunk(self, first: int, size: int) -> np.ndarray:
        """Gives volumes first to first + size; 0 for padding and what is damaged."""
        # A new buffer each time: the device may still be copying the last one.
        buffer = np.zeros((size, *self.shape), self.dtype)
        records = self.records[first : first + size].tolist()

        def read(place: int) -> None:
            try:
                buffer[place] = self.dataset.read(records[place])
            except InputRefusedError as error:
                self.bad[records[place]] = str(error)
                log.warning("leaving out record %d (%s)", records[place], error)

        for _ in self.pool.map(read, range(len(records))):
            pass
        return buffer


@partial(jax.jit, donate_argnums=0)
def _insert(held: jax.Array, chunk: jax.Array, first: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(held, chunk, first, axis=0)


def _fill(
    device: Any,
    shape: tuple[int, ...],
    dtype: np.dtype,
    reader: _Reader,
    chunk: int,
) -> jax.Array:
    """The share of one device, chunk after chunk into memory taken once."""
    place = SingleDeviceSharding(device)
    held = jax.jit(partial(jnp.zeros, shape, dtype), out_shardings=place)()
    for first in range(0, shape[0], chunk):
        volumes = reader.chunk(first, min(chunk, shape[0] - first))
        # Wait for the chunk before, that was copied while this one was read.
        held = jax.block_until_ready(held)
        held = _insert(held, jax.device_put(volumes, device), np.int32(first))
    return jax.block_until_ready(held)


def _share_damage(
    bad: dict[int, str], records: Int[np.ndarray, " n"]
) -> dict[int, str]:
    """The damaged records of all processes; of others' we know which and whose."""
    if jax.process_count() == 1:
        return bad
    flags = np.packbits(np.isin(records, list(bad)))
    every = np.asarray(multihost_utils.process_allgather(flags))
    found = dict(bad)
    for process, row in enumerate(every):
        for record in records[np.unpackbits(row, count=len(records)) > 0].tolist():
            found.setdefault(record, f"record {record}: damaged, met by {process}")
    return found


def _refuse_nothing(records: Int[np.ndarray, " n"], bad: dict[int, str]) -> None:
    if len(bad) == len(records):
        reason = next(iter(bad.values()))
        raise InputRefusedError(f"data: wanted a readable record, got {reason}")
