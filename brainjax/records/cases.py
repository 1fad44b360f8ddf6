"""Cases: the scans of one subject and session together, one of each sequence.

A sequence that a case lacks is a volume of zeros: code 0 is "outside" everywhere, so a
network can tell it from any scan. `Cases` is used wherever a data set of scans is.
"""

import difflib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from brainjax.errors import InputRefusedError
from brainjax.records.encoding import Ids
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.volume.canonical import Stored

log = logging.getLogger("brainjax")

MAP_KEYS = ("label_map", "label_map_source", "label_map_sha256")

SAME_GRID = 0.5
"""Voxels that scans of a case may lie apart and still count as one over another."""


class Cases(RecordDataset):
    """A prepared data set seen as cases; `open_cases` makes one.

    A case is a subject and session with at least one of the sequences. Of two scans of
    one sequence it has the first by source name; one warning says how many were left.

    Attributes:
      sequences: their names, in the order of the volumes.
      records: the scan of every case and sequence, -1 where it is missing.
      rows: one a case; its source and sequence name all of its scans, joined by "+".
      present: which sequences a case has.

    Raises:
      InputRefusedError: a sequence that no scan has (with the near miss), or twice.
    """

    def __init__(self, dataset: RecordDataset, sequences: Sequence[str]):
        self.scans, self.sequences = dataset, tuple(sequences)
        _check(dataset, self.sequences)
        self.records: Int[np.ndarray, "n s"] = _group(dataset, self.sequences)
        rows = [self._row(records) for records in self.records]
        super().__init__(dataset.folder, dataset.recipe, rows, dataset._shards)

    @property
    def present(self) -> Bool[np.ndarray, "n s"]:
        """Which sequences a case has."""
        return self.records >= 0

    def read(self, index: int, /) -> Stored:
        """Gives the codes of a case, [s, x, y, z]; [x, y, z] of a single sequence.

        Raises:
          InputRefusedError: one of its scans is damaged.
        """
        records = self.records[index]
        if len(records) == 1:
            return self.scans.read(int(records[0]))
        whole = np.zeros((len(records), *self.shape), self.recipe.storage)
        for place, record in enumerate(records):
            if record >= 0:
                whole[place] = self.scans.read(int(record))
        return whole

    def read_label_map(self, index: int) -> Ids:
        """Gives the raw ids of a case: of its first sequence that has a label map.

        Raises:
          InputRefusedError: none has one, or it is damaged.
        """
        return self.scans.read_label_map(self._labelled(self.records[index]))

    def _labelled(self, records: Int[np.ndarray, " s"]) -> int:
        """Gives the first scan of a case that has a label map, else the first."""
        here = [int(record) for record in records if record >= 0]
        known = [r for r in here if self.scans.rows[r].get("label_map") is not None]
        return (known or here)[0]

    def apart(self, index: int) -> str:
        """Says which scan of a case lies elsewhere than its label map; "" if none."""
        own = self._labelled(self.records[index])
        first = self.scans.rows[own]
        for record in self.records[index]:
            row = self.scans.rows[record]
            if record < 0 or record == own:
                continue
            away = voxels_apart(first["affine"], row["affine"], self.shape)
            if away > SAME_GRID:
                where = f"{away:.1f} voxels away from {first['source']}"
                return f"{first['subject']} ({row['source']} is {where})"
        return ""

    def labels(self, name: str) -> list[Any]:
        """Gives a label of every case, None where none of its scans has it.

        Raises:
          InputRefusedError: no scan has it, or the scans of a case do not agree.
        """
        labels = self.scans.labels(name)
        if name == "sequence" and labels == [r["sequence"] for r in self.scans.rows]:
            return [row["sequence"] for row in self.rows]
        return [self._agreed(name, labels, number) for number in range(len(self))]

    def _agreed(self, name: str, labels: list[Any], number: int) -> Any:
        given = [labels[record] for record in self.records[number] if record >= 0]
        known = [label for label in given if label is not None]
        if len(set(known)) > 1:
            raise InputRefusedError(
                f"{self.folder}: wanted one {name} of {self.rows[number]['source']}, "
                f"got {', '.join(map(str, known))}"
            )
        return known[0] if known else None

    def _row(self, records: Int[np.ndarray, " s"]) -> dict[str, Any]:
        rows = [self.scans.rows[record] for record in records if record >= 0]
        hashes = [
            self.scans.rows[record]["codes_sha256"] if record >= 0 else "missing"
            for record in records
        ]
        labelled = self.scans.rows[self._labelled(records)]
        stated = [row.get("orientation") or "unstated" for row in rows]
        return {
            **{key: rows[0][key] for key in ("subject", "session", "labels")},
            "source": "+".join(str(row["source"]) for row in rows),
            "sequence": "+".join(str(row["sequence"]) for row in rows),
            "codes_sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
            **{key: labelled.get(key) for key in MAP_KEYS if key in labelled},
            # One that is stored otherwise is enough to be careful with all.
            "orientation": next((s for s in stated if s[0] not in "LR"), stated[0]),
        }


def open_cases(folder: str | Path, sequences: Sequence[str] = ()) -> RecordDataset:
    """Opens what `prepare` wrote, as cases of these sequences; as scans without any.

    Raises:
      InputRefusedError: as `open_dataset` and `Cases` do.
    """
    dataset = open_dataset(folder)
    return Cases(dataset, sequences) if sequences else dataset


def voxels_apart(
    one: Float64[np.ndarray, "4 4"] | Sequence[Sequence[float]],
    other: Float64[np.ndarray, "4 4"] | Sequence[Sequence[float]],
    shape: Sequence[int],
) -> float:
    """Gives how many voxels the corners of two grids of one shape lie apart at most.

    Args:
      one, other: their affines, indices to mm.
      shape: of both, in voxels.
    """
    away = np.linalg.inv(np.asarray(one)) @ np.asarray(other)
    corners = np.array([(0, 0, 0, 1), (*shape, 1)], np.float64).T
    return float(np.abs(away @ corners - corners).max())


def _check(dataset: RecordDataset, sequences: tuple[str, ...]) -> None:
    known = sorted({str(row["sequence"]) for row in dataset.rows if row["sequence"]})
    for name in sequences:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputRefusedError(
                f"{dataset.folder}: wanted scans of sequence {name}, got those of "
                f"{', '.join(known) or 'none that says its sequence'}{hint}"
            )
    if len(set(sequences)) < len(sequences):
        raise InputRefusedError(
            f"sequences: wanted each once, got {', '.join(sequences)}"
        )


def _group(
    dataset: RecordDataset, sequences: tuple[str, ...]
) -> Int[np.ndarray, "n s"]:
    """Gives the scans of every case, in the order in which cases come."""
    found: dict[tuple, dict[str, int]] = {}
    left = 0
    for record, row in enumerate(dataset.rows):
        if row["sequence"] not in sequences:
            continue
        case = found.setdefault((row["subject"], row["session"]), {})
        before = case.get(row["sequence"])
        left += before is not None
        if before is None or row["source"] < dataset.rows[before]["source"]:
            case[row["sequence"]] = record
    if left:
        log.warning(
            "%s: leaving out %d scans of a sequence that their session has already",
            dataset.folder,
            left,
        )
    return np.array([[case.get(s, -1) for s in sequences] for case in found.values()])
