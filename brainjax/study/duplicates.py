"""One scan under two names: the same voxels, or all but the same."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.records.store import RecordDataset

SIDE = 32
"""Voxels along each axis of the small copies that are compared."""
BLUR = 1.5
"""What is smoother than this, in their voxels, is the same in all heads."""
ALIKE = 0.8
"""Correlation from which two small copies are one scan: on IXI at 4 mm two people
reach 0.55, a scan and its copy moved by half a voxel 0.82, with noise 0.98; phantoms,
which are bent from one atlas, reach 0.71."""
CHUNK = 256


class Scans(NamedTuple):
    """Some scans of a prepared data set."""

    dataset: RecordDataset
    indices: Sequence[int]

    def rows(self) -> list[dict]:
        """Their lines of the manifest."""
        return [self.dataset.rows[int(i)] for i in self.indices]

    def of(self, sequence: str | None) -> "Scans":
        """Those of one sequence."""
        rows = zip(self.indices, self.rows(), strict=True)
        return Scans(
            self.dataset, [i for i, row in rows if row["sequence"] == sequence]
        )


class Twins(NamedTuple):
    """Two scans of subjects with different names; `alike` is 1 for the same bytes."""

    tested: dict
    learnt: dict
    alike: float


def same_voxels(tested: Scans, learnt: Scans) -> list[Twins]:
    """Finds tested scans whose volume is stored under another subject's name too."""
    by_hash: dict[str, list[dict]] = {}
    for row in learnt.rows():
        by_hash.setdefault(row["codes_sha256"], []).append(row)
    return [
        Twins(row, other, 1.0)
        for row in tested.rows()
        for other in by_hash.get(row["codes_sha256"], ())
        if other["subject"] != row["subject"]
    ]


def near_twins(tested: Scans, learnt: Scans) -> list[Twins]:
    """Finds tested scans that another subject's scan resembles as only itself can.

    Small copies of one sequence, without what is smooth and without the mean of all of
    them, are correlated: a scan stored again with noise, other brightness or another
    grid of the same recipe correlates, two people do not.
    """
    found = []
    for sequence in dict.fromkeys(row["sequence"] for row in tested.rows()):
        found += _near_twins(tested.of(sequence), learnt.of(sequence))
    return found


def _near_twins(tested: Scans, learnt: Scans) -> list[Twins]:
    ours, theirs = _small(tested), _small(learnt)
    if not len(ours) or not len(theirs):
        return []
    mean = np.concatenate([ours, theirs]).mean(0)
    ours, theirs = _unit(ours - mean), _unit(theirs - mean)
    our_rows, their_rows = tested.rows(), learnt.rows()
    found = []
    for start in range(0, len(ours), CHUNK):
        for i, j in np.argwhere(ours[start : start + CHUNK] @ theirs.T > ALIKE):
            pair = our_rows[start + i], their_rows[j]
            different = pair[0]["codes_sha256"] != pair[1]["codes_sha256"]
            if pair[0]["subject"] != pair[1]["subject"] and different:
                found.append(Twins(*pair, float(ours[start + i] @ theirs[j])))
    return found


def _small(scans: Scans) -> Float[np.ndarray, "n p"]:
    from scipy.ndimage import gaussian_filter

    found = []
    for index in scans.indices:
        small = _shrink(np.asarray(scans.dataset.read(int(index)), np.float32))
        inside = small != 0
        spread = float(small[inside].std()) if inside.any() else 0.0
        if spread > 0:
            mean = float(small[inside].mean())
            small = np.where(inside, (small - mean) / spread, 0)
        found.append((small - gaussian_filter(small, BLUR)).ravel())
    return np.array(found, np.float32).reshape(len(found), -1)


def _shrink(volume: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, "i j k"]:
    """Means of blocks, so that the longest axis has at most `SIDE`."""
    step = max(1, -(-max(volume.shape) // SIDE))
    pad = [(0, -side % step) for side in volume.shape]
    x, y, z = (n // step for n in np.pad(volume, pad).shape)
    cells = np.pad(volume, pad).reshape(x, step, y, step, z, step)
    return cells.mean((1, 3, 5))


def _unit(rows: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
