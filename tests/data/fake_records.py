"""Records made up as they are read, some of them damaged."""

import numpy as np

from brainjax.errors import InputRefusedError

SHAPE = (2, 3, 4)


class Fake:
    """Records whose every voxel is their number; two of a subject; some are damaged."""

    def __init__(self, size: int, bad: tuple[int, ...] = (), dtype=np.uint8):
        self.size, self.damaged, self.dtype = size, bad, dtype
        self.subject_ids = np.arange(size, dtype=np.int32) // 2
        self.shape = SHAPE
        self.rows = [{"source": f"scan {number}"} for number in range(size)]

    def __len__(self) -> int:
        return self.size

    def read(self, index: int, /) -> np.ndarray:
        if index in self.damaged:
            raise InputRefusedError(f"record {index}: wanted a checksum, got another")
        return np.full(SHAPE, index, dtype=self.dtype)
