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

_HARMLESS = (
    *LABEL_MAPS,
    *("annotation", "auto", "automatic", "bet", "binary", "brain", "consensus"),
    *("corrected", "edited", "expert", "fastsurfer", "final", "freesurfer", "ground"),
    *("gt", "infarct", "manual", "n4", "norm", "observer", "preproc", "rater"),
    *("reader", "roi", "stripped", "stroke", "synthseg", "tissue", "tissues"),
    *("truth", "tumor", "tumour", "wmh"),
)
"""Words of a label map's name that say how it was made or what it shows, not whose."""

_DESCRIBING = ("atlas", "desc", "hemi", "label", "seg", "space")
"""BIDS entities of label maps alone; spaces are compared on their own."""

_NATIVE = ("orig", "scanner")
"""Spaces that are those of the scan's own file."""


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
    if about == stem:
        return 0
    entities, others = _entities(scan, source), _entities(label_map, source)
    if entities != others:
        return None
    before = _before_sequence(stem)
    if about == before or (not before and about == source.subject):
        return 1
    if before and about.startswith(f"{before}_"):
        more = about[len(before) + 1 :]
        if not _is_harmless(more, stem[len(before) :]):
            return None
        named = {sequence_name(word[0]) for word in name_words(more)}
        return 3 if named - {None, source.sequence} else 2
    of_subject = entities[0] is not None and before.startswith(f"{about}_")
    return 4 if about and of_subject else None


def _entities(path: Path, source: Source) -> list[str | None]:
    """Gives subject, session and space of a name; None: that of the scan's file."""
    space = name_entity("space", Path(path.name))
    if space and (space in _NATIVE or sequence_name(space) == (source.sequence or "")):
        space = None
    return [name_entity("sub", path), name_entity("ses", path), space]


def _is_harmless(more: str, own: str) -> bool:
    """Says whether what a label map's name adds to a scan's can be of that scan.

    So can words the scan's name ends with, too, and numbered ones, as rater2. Other
    numbers and entities, such as run-2, can not: they are of another scan.
    """
    known = {*_HARMLESS, *(word[0].lower() for word in name_words(own))}
    for part in more.split("_"):
        words = [word[0].lower() for word in name_words(part)]
        plain = all(
            sequence_name(word) or word in known or word.rstrip("0123456789") in known
            for word in words
        )
        if not plain and words[0] not in _DESCRIBING:
            return False
    return True


def _before_sequence(stem: str) -> str:
    """Gives what a scan's name says before its sequence; all where it has none.

    The last word of a BIDS name is its sequence, whether known or not.

    >>> _before_sequence("patient07_T1POST")
    'patient07'
    >>> _before_sequence("sub-01_PDw"), _before_sequence("scan_001")
    ('sub-01', 'scan_001')
    """
    starts = [w.start() for w in name_words(stem) if sequence_name(w[0])]
    if not starts:
        rest, _, last = stem.rpartition("_")
        is_bids = name_entity("sub", Path(stem)) is not None and "-" not in last
        return rest if rest and is_bids else stem
    return stem[: starts[-1]].strip("_-. ")
