"""Which label map belongs to which scan, by their names."""

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from brainjax.anatomy import sequence_name
from brainjax.errors import InputRefusedError
from brainjax.records.sources import (
    LABEL_MAPS,
    SUFFIXES,
    Source,
    name_entity,
    name_stem,
    name_words,
)

log = logging.getLogger("brainjax")


class Paired(NamedTuple):
    """Scans with their label maps.

    unclear: scans for which several label maps would do, and why none was taken.
    """

    sources: list[Source]
    unclear: list[tuple[str, str]]


def pair_label_maps(sources: Sequence[Source], word: str) -> Paired:
    """Gives the scans with the label map beside them whose name ends with `word`.

    `sub-01_T1w.nii.gz` and `sub-01_FLAIR.nii.gz` share `sub-01_dseg.nii.gz`, unless
    `sub-01_FLAIR_dseg.nii.gz` is there: the name that says most of the scan's wins.
    A scan whose label map is known from a table keeps it.

    Raises:
      InputRefusedError: a word that is none of LABEL_MAPS, or no scan has such a map.
    """
    if word.lower() not in LABEL_MAPS:
        near = difflib.get_close_matches(word.lower(), LABEL_MAPS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputRefusedError(
            f"label-maps: wanted the last word of their names, one of "
            f"{', '.join(LABEL_MAPS)} (or a table with a column label_map), got "
            f"{word}{hint}"
        )
    maps: dict[Path, list[Path]] = {}
    paired, unclear = [], []
    for source in sources:
        found: list[Path] = []
        path = Path(source.path)
        if source.label_map is None and path.name.lower().endswith(SUFFIXES):
            if path.parent not in maps:
                maps[path.parent] = _maps(path.parent, word.lower())
            found = _best(source, maps[path.parent])
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            reason = f"wanted one {word}, got {names}; a table can say which"
            unclear.append((source.path, f"{source.path}: {reason}"))
        one = len(found) == 1
        paired.append(source._replace(label_map=str(found[0])) if one else source)
    _tell(paired, unclear, word)
    return Paired(paired, unclear)


def _tell(
    paired: Sequence[Source], unclear: Sequence[tuple[str, str]], word: str
) -> None:
    missing = [source.path for source in paired if source.label_map is None]
    if len(missing) == len(paired) and not unclear:
        raise InputRefusedError(
            f"label-maps: wanted files such as ..._{word.lower()}.nii.gz beside the "
            f"scans, got none for {len(paired)} scans, such as {missing[0]}"
        )
    if len(missing) > len(unclear):
        log.warning(
            "%d of %d scans have no label map %s and are prepared without",
            *(len(missing) - len(unclear), len(paired), word),
        )


def _maps(folder: Path, word: str) -> list[Path]:
    """Gives the label maps of a folder whose last word it is, sorted."""
    found = []
    for path in sorted(folder.iterdir()):
        words = name_words(name_stem(path.name))
        called = path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
        if called and words and words[-1][0].lower() == word:
            found.append(path)
    return found


def _best(source: Source, maps: Sequence[Path]) -> list[Path]:
    """Gives the label maps whose names fit a scan's best."""
    ranks = {path: _rank(source, path) for path in maps}
    known = [rank for rank in ranks.values() if rank is not None]
    return [path for path, rank in ranks.items() if known and rank == min(known)]


def _rank(source: Source, label_map: Path) -> int | None:
    """Says how well a label map's name fits a scan's, 0 best; None: not at all."""
    scan = Path(source.path)
    stem, called = name_stem(scan.name), name_stem(label_map.name)
    about = called[: name_words(called)[-1].start()].rstrip("_-. ")
    entities = [[name_entity(k, p) for k in ("sub", "ses")] for p in (scan, label_map)]
    if about == stem:
        return 0
    if entities[0] != entities[1]:
        return None
    before = _before_sequence(stem)
    if about == before or (not before and about == source.subject):
        return 1
    if before and about.startswith(f"{before}_"):
        others = {sequence_name(word[0]) for word in name_words(about[len(before) :])}
        return 3 if others - {None, source.sequence} else 2
    of_subject = entities[0][0] is not None and before.startswith(f"{about}_")
    return 4 if about and of_subject else None


def _before_sequence(stem: str) -> str:
    """Gives what a scan's name says before its sequence; all where it has none.

    >>> _before_sequence("patient07_T1POST")
    'patient07'
    """
    starts = [w.start() for w in name_words(stem) if sequence_name(w[0])]
    if not starts:
        last = stem.rsplit("_", 1)
        return last[0] if len(last) == 2 and "-" not in last[1] else stem
    return stem[: starts[-1]].strip("_-. ")
