"""Stored volumes: ArrayRecord shards and a manifest, read from any thread."""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import (
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)
from jaxtyping import Int32

from brainjax.errors import InputRefusedError
from brainjax.records.encoding import Ids, decode_label_map, decode_record
from brainjax.volume.canonical import Codes
from brainjax.volume.recipe import AnyRecipe, recipe_from_dict

FORMAT = 1
SHARD_RECORDS = 64
WRITER_OPTIONS = "group_size:1,zstd:1"
READER_OPTIONS = "readahead_buffer_size:0"
LABEL_MAPS = "label_maps"
"""Folder of a data set: raw ids on the grid of its volumes, a file a scan."""


def shard_name(number: int, count: int) -> str:
    """Gives the file name of shard `number` of `count`."""
    return f"volumes-{number:05d}-of-{count:05d}.array_record"


class Shards:
    """The payloads of a folder of shards, by record; from any thread; picklable."""

    def __init__(self, folder: str | Path, count: int):
        self.folder, self.count = Path(folder), count
        self._open()

    def _open(self) -> None:
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "count": self.count}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def path(self, record: int) -> Path:
        """Gives the shard that holds a record."""
        shards = -(-self.count // SHARD_RECORDS)
        return self.folder / shard_name(record // SHARD_RECORDS, shards)

    def payload(self, record: int) -> bytes:
        """Gives the bytes of a record; InputRefusedError names shard and record."""
        if not 0 <= record < self.count:
            raise IndexError(f"record {record} of {self.count}")
        try:
            return self._reader(record).read([record % SHARD_RECORDS])[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(record, error) from None

    def read(self, record: int) -> tuple[Codes, dict]:
        """Gives codes and header of a record; InputRefusedError when damaged."""
        try:
            return decode_record(self.payload(record))
        except InputRefusedError:
            raise
        except (ValueError, KeyError) as error:
            raise self._damaged(record, error) from None

    def _reader(self, record: int) -> Any:
        number = record // SHARD_RECORDS
        with self._lock:
            if number not in self._readers:
                path = self.path(record)
                if not path.is_file():
                    raise ValueError("no such shard")
                self._readers[number] = array_record_module.ArrayRecordReader(
                    str(path), options=READER_OPTIONS, file_reader_buffer_size=32768
                )
            return self._readers[number]

    def _damaged(self, record: int, error: Exception) -> InputRefusedError:
        reason = " ".join(str(error).split())[:200]
        place = f"record {record % SHARD_RECORDS} (scan {record})"
        return InputRefusedError(f"{self.path(record)}: {place} is damaged: {reason}")


class RecordDataset:
    """A prepared data set: a sequence of canonical volumes and what is known of them.

    folder: where it lies; recipe: what made it; rows: the manifest, one dict per
    record; subject_ids: dense numbers, one per subject; shape: of every volume, in
    voxels. `open_dataset` makes one; it can be pickled.
    """

    def __init__(
        self, folder: Path, recipe: AnyRecipe, rows: list[dict], shards: Shards
    ):
        self.folder, self.recipe, self.rows = folder, recipe, rows
        self._shards = shards
        subjects = [row["subject"] for row in rows]
        self.subject_ids: Int32[np.ndarray, " n"] = np.unique(
            subjects, return_inverse=True
        )[1].astype(np.int32)
        x, y, z = recipe.shape
        self.shape: tuple[int, int, int] = (int(x), int(y), int(z))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, /) -> Codes:
        """Gives the codes of a record, of the recipe's storage, read-only.

        From any thread.

        Raises:
          InputRefusedError: the record is damaged; names its shard and number.
        """
        codes, header = self._shards.read(int(index))
        row = self.rows[index]
        wanted = row["key"][:12], self.shape, self.recipe.storage
        found = header["key"][:12], codes.shape, codes.dtype.name
        if found != wanted:
            raise InputRefusedError(
                f"{self._shards.path(index)}: wanted {_words(wanted)} as record "
                f"{index}, got {_words(found)}"
            )
        return codes

    def read_label_map(self, index: int) -> Ids:
        """Gives the raw ids of a record's label map, on its grid, read-only.

        From any thread.

        Raises:
          InputRefusedError: it has none, or a damaged one, which is named.
        """
        name, key = self.rows[index].get("label_map"), self.rows[index]["key"]
        if name is None:
            raise InputRefusedError(
                f"{self.folder}: wanted a label map of {self.rows[index]['source']}, "
                "got none; `brainjax prepare --label-maps` takes them in"
            )
        path = self.folder / LABEL_MAPS / name
        try:
            ids, header = decode_label_map(path.read_bytes())
            wanted, found = (key[:12], *self.shape), (header["of"][:12], *ids.shape)
            if wanted != found:
                raise ValueError(f"wanted {_words(wanted)}, got {_words(found)}")
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputRefusedError(
                f"{path}: damaged label map: {reason}; run prepare again"
            ) from None
        return ids

    def labels(self, name: str) -> list[Any]:
        """Gives a label of every scan, None where unknown.

        "sequence", "session" and "subject" give those of the scan, unless the table
        of labels has a column of that name.

        Raises:
          InputRefusedError: no scan has a label of that name.
        """
        if any(name in row["labels"] for row in self.rows):
            return [row["labels"].get(name) for row in self.rows]
        if name in ("sequence", "session", "subject"):
            return [row[name] for row in self.rows]
        known = sorted({key for row in self.rows for key in row["labels"]})
        raise InputRefusedError(
            f"{self.folder}: wanted a label {name}, got {', '.join(known) or 'none'}"
        )


def _words(facts: tuple) -> str:
    return " ".join(map(str, facts))


def open_dataset(folder: str | Path) -> RecordDataset:
    """Opens what `prepare` wrote.

    Raises:
      InputRefusedError: no prepared data set, half of one, or of another version.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    if facts is None:
        raise InputRefusedError(
            f"{folder}: wanted a prepared data set, got no dataset.json; "
            "`brainjax prepare` makes one"
        )
    manifest = folder / "manifest.jsonl"
    text = manifest.read_bytes() if manifest.is_file() else b""
    if hashlib.sha256(text).hexdigest() != facts["manifest_sha256"]:
        raise InputRefusedError(
            f"{manifest}: wanted the manifest of dataset.json, got another; "
            "run prepare again"
        )
    rows = [json.loads(line) for line in text.splitlines()]
    shards = Shards(folder / facts["shards"], len(rows))
    for record in range(0, len(rows), SHARD_RECORDS):
        if not shards.path(record).is_file():
            raise InputRefusedError(
                f"{shards.path(record)}: wanted a shard, got nothing; run prepare again"
            )
    try:
        recipe = recipe_from_dict(facts["recipe"])
    except InputRefusedError as error:
        raise InputRefusedError(f"{folder}: {error}") from None
    return RecordDataset(folder, recipe, rows, shards)


def read_facts(folder: Path) -> dict | None:
    """Gives dataset.json of a prepared folder, None where there is none.

    Raises:
      InputRefusedError: malformed, or of another version.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text())
        version = facts["format"]
        wanted = {"recipe", "recipe_hash", "shards", "manifest_sha256"} - set(facts)
    except (ValueError, KeyError, TypeError):
        raise InputRefusedError(
            f"{path}: wanted the description of a prepared data set, got other text"
        ) from None
    if version != FORMAT or wanted:
        raise InputRefusedError(
            f"{path}: wanted format {FORMAT} with every key, got format {version} "
            f"without {sorted(wanted)}"
        )
    return facts


def write_shards(folder: Path, payloads: Sequence[Any]) -> None:
    """Writes payloads (functions that give bytes) as shards of 64 records.

    Each shard appears whole: written beside its place, then renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-len(payloads) // SHARD_RECORDS)
    for number in range(count):
        path = folder / shard_name(number, count)
        half = path.with_suffix(".half")
        try:
            _write_shard(half, payloads[number * SHARD_RECORDS :][:SHARD_RECORDS])
        except RuntimeError as error:
            half.unlink(missing_ok=True)
            if "No space left" in str(error):
                reason = os.strerror(errno.ENOSPC)
                raise OSError(errno.ENOSPC, reason, str(half)) from None
            raise
        _sync(half)
        os.replace(half, path)


def _write_shard(path: Path, payloads: Sequence[Any]) -> None:
    writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
    for give in payloads:
        writer.write(give())
    writer.close()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
