"""Label maps of scans: found beside them, laid on the stored volumes, stored."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.records.encoding import decode_label_map, encode_label_map
from brainjax.records.sources import Source
from brainjax.records.store import LABEL_MAPS
from brainjax.records.writing import write_atomically
from brainjax.volume.canonical import Codes
from brainjax.volume.dicom import digest_source
from brainjax.volume.label_maps import lay_over, read_label_map
from brainjax.volume.recipe import AnyRecipe

log = logging.getLogger("brainjax")

LABEL_MAPS_VERSION = 1
"""Of the code that lays them on volumes."""


class StagedMap(NamedTuple):
    """The outcome of one label map: its file and hash, or why there is none.

    All empty where the scan has no label map.
    """

    name: str | None = None
    sha256: str = ""
    reason: str = ""


def stage_label_map(
    out: Path,
    source: Source,
    key: str,
    read: Callable[[], tuple[Codes, dict]],
    orientation: str | None,
) -> StagedMap:
    """Stores the label map of a prepared scan unless a good one is there.

    Never raises.

    Args:
      out: the data set.
      source: the scan.
      key: of its record.
      read: gives the codes and the header of that record.
      orientation: of files whose header states none.
    """
    if source.label_map is None:
        return StagedMap()
    try:
        name = _name(source.label_map, key, orientation)
        path = out / LABEL_MAPS / name
        sha256 = _stored(path)
        if sha256 is None:
            labels = read_label_map(source.label_map, orientation=orientation)
            data = _make(labels, key, *read())
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, data)
            sha256 = decode_label_map(data)[1]["codes_sha256"]
        return StagedMap(name, sha256)
    except InputRefusedError as error:
        return StagedMap(reason=str(error))
    except Exception as error:  # a bad file fails alone, whatever it sets off
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return StagedMap(reason=f"{source.label_map}: {reason}")


def _name(label_map: str, key: str, orientation: str | None) -> str:
    """Gives a name that all that decides the bytes is in."""
    parts = [key, digest_source(label_map), orientation or "-", str(LABEL_MAPS_VERSION)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() + ".record"


def _stored(path: Path) -> str | None:
    """Gives the hash of the ids in a file, None where there is none that is good."""
    try:
        return decode_label_map(path.read_bytes())[1]["codes_sha256"]
    except (OSError, ValueError, KeyError):
        return None


def _make(labels, key: str, codes: Codes, header: dict) -> bytes:
    affine = np.array(header["affine"])
    to_scan = np.array(header["provenance"].get("to_scan", np.eye(4)))
    laid = lay_over(labels, codes, affine, to_scan)
    facts = {"of": key, "affine": header["affine"], "outside": laid.outside}
    return encode_label_map(laid.ids, facts)


def check_label_maps(
    sources: Sequence[Source], recipe: AnyRecipe, word: str | None
) -> None:
    """Refuses label maps beside volumes that are not of codes, before any work."""
    asked = word is not None or any(s.label_map is not None for s in sources)
    if asked and recipe.storage != "uint8":
        raise InputRefusedError(
            "label-maps: wanted a recipe of uint8 codes, got "
            f"{recipe.describe()} of {recipe.storage}"
        )


def remove_others(out: Path, names: set[str]) -> None:
    """Removes the label maps that no scan of the data set has, and halves."""
    folder = out / LABEL_MAPS
    gone = [path for path in folder.glob("*") if path.name not in names]
    for path in gone:
        path.unlink()
    if folder.is_dir() and not names:
        log.warning("%s: %d label maps of an earlier call leave it", out, len(gone))
        folder.rmdir()
