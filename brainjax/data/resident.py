"""A small data set in memory: read once, then as fast as memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from brainjax.data.loader import Dataset
from brainjax.errors import InputRefusedError
from brainjax.volume.canonical import Stored


class Resident:
    """Records held in memory; `loader.batches` takes it in place of the data set.

    volumes: uint8 or float32 [n, x, y, z], in the order of `records` (int64 [n], their
    numbers in the data set); bad: message of every damaged record, whose volume is all
    0 and which `read` refuses, so that the batches are those of the data set on disk.
    """

    def __init__(
        self,
        volumes: UInt8[np.ndarray, "n *s x y z"] | Float32[np.ndarray, "n *s x y z"],
        records: Int[np.ndarray, " n"],
        subject_ids: Int32[np.ndarray, " m"],
        bad: dict[int, str],
    ):
        self.volumes, self.records = volumes, records
        self.subject_ids, self.bad = subject_ids, bad
        self._place = {int(record): i for i, record in enumerate(records)}

    def __len__(self) -> int:
        return len(self.subject_ids)

    def read(self, index: int) -> Stored:
        """Gives a record by its number in the data set; InputRefusedError if bad."""
        if index in self.bad:
            raise InputRefusedError(self.bad[index])
        return self.volumes[self._place[index]]


def load_resident(
    dataset: Dataset, indices: Int[np.ndarray, " n"], *, threads: int = 4
) -> Resident:
    """Reads the records `indices` of a data set into memory, once each.

    Raises InputRefusedError when there are none or all are damaged.
    """
    records = np.unique(np.asarray(indices, dtype=np.int64))
    bad: dict[int, str] = {}

    def read(record: int) -> Stored | None:
        try:
            return dataset.read(record)
        except InputRefusedError as error:
            bad[record] = str(error)
            return None

    volumes = None
    with ThreadPoolExecutor(threads) as pool:
        for place, volume in enumerate(pool.map(read, records.tolist())):
            if volume is not None:
                if volumes is None:
                    shape = (len(records), *volume.shape)
                    volumes = np.zeros(shape, dtype=volume.dtype)
                volumes[place] = volume
    if volumes is None:
        reason = next(iter(bad.values()), "no records")
        raise InputRefusedError(f"data: wanted a readable record, got {reason}")
    return Resident(volumes, records, dataset.subject_ids, bad)
