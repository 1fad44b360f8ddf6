"""Volumes and their label maps in one array, so that they go every way together."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from brainjax.errors import InputRefusedError
from brainjax.records.cases import Cases
from brainjax.records.classes import UNKNOWN, Classes
from brainjax.records.encoding import Ids
from brainjax.records.store import RecordDataset, Shards
from brainjax.volume.recipe import Recipe

log = logging.getLogger("brainjax")


class Segmentations(RecordDataset):
    """Scans or cases with the class numbers of their voxels as the last volume.

    Wherever a data set of scans is read, into memory or onto devices, this one is. Of
    a case whose scans do not lie over one another the label map is left out, and one
    warning names all of these.

    Attributes:
      cases: the scans (`RecordDataset`) or cases (`Cases`), in the same order.
      classes: what the raw ids stand for.
      labelled: which of them have a label map; the voxels of others are all unknown.
      channels: sequences of a case; `read` gives one volume more.

    Raises:
      InputRefusedError: none has a label map that lies over all of its scans, or
        volumes are not stored as uint8.
    """

    def __init__(self, cases: RecordDataset, classes: Classes):
        self.cases, self.classes = cases, classes
        if cases.recipe.storage != "uint8":
            raise InputRefusedError(
                f"{cases.folder}: wanted volumes of uint8 codes beside label maps, got "
                f"those of recipe {cases.recipe.describe()}"
            )
        self.labelled: Bool[np.ndarray, " n"] = np.array(
            [row.get("label_map") is not None for row in cases.rows], bool
        )
        if not self.labelled.any():
            raise InputRefusedError(
                f"{cases.folder}: wanted a scan with a label map, got {len(cases)} "
                "without; `brainjax prepare --label-maps` takes them in"
            )
        self._leave_out_apart()
        rows = [_with_map(row) for row in cases.rows]
        super().__init__(cases.folder, cases.recipe, rows, cases._shards)
        self.channels = len(getattr(cases, "sequences", ())) or 1

    def _leave_out_apart(self) -> None:
        """Leaves out label maps that lie over some scans of a case but not over all."""
        if not isinstance(self.cases, Cases):
            return
        known = np.flatnonzero(self.labelled)
        apart = {n: said for n in known if (said := self.cases.apart(int(n)))}
        self.labelled[list(apart)] = False
        advice = "prepare them with a recipe that aligns them"
        if apart and not self.labelled.any():
            raise InputRefusedError(
                f"{self.cases.folder}: wanted a case whose scans lie over one another, "
                f"got none of {len(apart)}, such as {min(apart.values())}; {advice}"
            )
        if apart:
            log.warning(
                "%s: leaving out %d of %d cases whose scans do not lie over one "
                "another: %s; %s",
                *(self.cases.folder, len(apart), len(known)),
                *(", ".join(apart.values()), advice),
            )

    def read(self, index: int, /) -> UInt8[np.ndarray, "s+1 x y z"]:
        """Gives the codes of each sequence and, last, the class numbers.

        0 is background, 1 and up are `classes.numbers`, 255 is unknown. From any
        thread.

        Raises:
          InputRefusedError: a scan or its label map is damaged.
        """
        both = np.empty((self.channels + 1, *self.shape), np.uint8)
        both[:-1] = self.cases.read(index)
        both[-1] = self.read_classes(index)
        return both

    def read_classes(self, index: int) -> UInt8[np.ndarray, "x y z"]:
        """Gives the class number of every voxel, 255 everywhere without a label map.

        Raises:
          InputRefusedError: the label map is damaged.
        """
        if not self.labelled[index]:
            return np.full(self.shape, UNKNOWN, np.uint8)
        return self.classes.of(self.cases.read_label_map(index))

    def read_label_map(self, index: int) -> Ids:
        """Gives the raw ids; see `RecordDataset.read_label_map`."""
        return self.cases.read_label_map(index)

    def labels(self, name: str) -> list:
        """Gives a label of every scan or case; see theirs."""
        return self.cases.labels(name)


class HeldScans(RecordDataset):
    """Volumes and label maps that are in memory already, as a prepared data set is.

    Args:
      volumes: codes of every scan, or of the sequences of every case.
      label_maps: raw ids of every scan, None where there are none.
      subjects: whose scan it is; each its own if left out.
      spacing: of the voxels, in mm.
    """

    def __init__(
        self,
        volumes: UInt8[np.ndarray, "n *s x y z"],
        label_maps: Sequence[Ids | None],
        *,
        subjects: Sequence[str] = (),
        spacing: float = 1.0,
    ):
        x, y, z = volumes.shape[-3:]
        fov = x * spacing, y * spacing, z * spacing
        recipe = Recipe("canonical", spacing=spacing, fov_mm=fov)
        names = subjects or [str(number) for number in range(len(volumes))]
        rows = [
            _row(number, name, ids is not None)
            for number, (name, ids) in enumerate(zip(names, label_maps, strict=True))
        ]
        folder = Path("memory")
        super().__init__(folder, recipe, rows, Shards(folder, 0))
        self.sequences = tuple(map(str, range(volumes[0].size // (x * y * z))))
        self._volumes, self._label_maps = volumes, list(label_maps)

    def read(self, index: int, /) -> UInt8[np.ndarray, "*s x y z"]:
        """Gives the codes of a scan or case."""
        return self._volumes[index]

    def read_label_map(self, index: int) -> Ids:
        """Gives the raw ids of a scan; InputRefusedError where there are none."""
        ids = self._label_maps[index]
        if ids is None:
            raise InputRefusedError(f"memory: wanted a label map of scan {index}")
        return ids


def _with_map(row: dict) -> dict:
    """Gives a row whose hash is of the volumes and the label map together."""
    both = f"{row['codes_sha256']} {row.get('label_map_sha256')}"
    return {**row, "codes_sha256": hashlib.sha256(both.encode()).hexdigest()}


def _row(number: int, subject: str, labelled: bool) -> dict:
    return {
        "record": number,
        "key": str(number),
        "source": str(number),
        "subject": subject,
        "session": None,
        "sequence": None,
        "labels": {},
        "orientation": None,
        "codes_sha256": str(number),
        "label_map": str(number) if labelled else None,
    }
