"""Which scans are meant: files, folders and tables, with what names and headers say."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from brainjax.anatomy import sequence_name
from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records.tables import DELIMITERS, find_column, need_column, read_table
from brainjax.volume.dicom import find_series, is_dicom
from brainjax.volume.dicom_elements import kind_of_file
from brainjax.volume.dicom_index import Index, Series, index_files
from brainjax.volume.folders import walk

log = logging.getLogger("brainjax")

SUFFIXES = (".nii.gz", ".nii")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
LABEL_MAPS = (
    *("aparc", "aseg", "defacemask", "dlmuse", "dseg", "label", "labels", "lesion"),
    *("lesions", "mask", "parcellation", "probseg", "seg", "segmentation"),
)
"""Last words of the names of files that are no scans; left out of folders."""

_PROCESSING = ("bet", "brain", "mni", "n4", "norm", "preproc", "reg", "stripped")
_NONE = ("", "n/a", "nan")


class Source(NamedTuple):
    """One scan and what is known of it; None where nothing is.

    `path` is of a NIfTI file, or the name of a DICOM series: see `dicom.read_series`.
    `mask` and `label_map` are files, the first on the scan's own grid.
    """

    path: str
    subject: str | None = None
    session: str | None = None
    sequence: str | None = None
    mask: str | None = None
    label_map: str | None = None


def find_sources(words: Iterable[str | Path], *, by_path: bool = True) -> list[Source]:
    """Gives the scans of files, folders and tables, each once.

    Sorted by path, or in the order of the words and of the rows of their tables.

    A table (.csv, .tsv) has a column path (relative to the table) and a column subject,
    and may have session, sequence, mask and label_map. Elsewhere names tell:
    `sub-01_ses-2_T1w` as in BIDS, or `patient07_T1POST`, or `stroke/FLAIR`. Folders are
    searched whole, without label maps, masks, hidden files, and the folders
    `folders.walk` leaves out.

    DICOM files in them, told by content, give one scan for each volume: the subject is
    a pseudonym of the patient's id unless a folder is called `sub-01`, the sequence is
    guessed from the header. Series that are no anatomical MR scans are counted.

    Raises:
      InputRefusedError: nothing there, no scan in a folder, a malformed table, one file
        described in two ways.
      MissingExtraError: there is only DICOM, and pydicom is not installed.
    """
    found: dict[str, Source] = {}
    tabled: dict[str, Source] = {}
    for word in words:
        path = Path(word)
        is_table = path.suffix.lower() in DELIMITERS
        for source in _read_sources(path) if is_table else _walk(path):
            place = os.path.abspath(source.path)
            if is_table and tabled.setdefault(place, source) != source:
                raise InputRefusedError(
                    f"{path}: wanted one description of {source.path}, got "
                    f"{tabled[place][1:]} and {source[1:]}"
                )
            found.setdefault(place, source)
    if not found and not tabled:
        raise InputRefusedError("sources: wanted a file, folder or table, got none")
    sources = list((found | tabled).values())
    return sorted(sources, key=lambda source: source.path) if by_path else sources


def describe(path: str | Path) -> Source:
    """Gives what the name of one scan says of its subject, session and sequence.

    >>> describe("patient07_T1POST.nii.gz")[1:4]
    ('patient07', None, 'T1CE')
    """
    path = Path(path)
    stem = name_stem(path.name)
    subject, session = name_entity("sub", path), name_entity("ses", path)
    if subject is None:
        return Source(str(path), _plain_subject(path, stem), session, _sequence(stem))
    sequence = _sequence(stem) or _suffix(stem)
    if sequence == "T1w" and re.search(r"(^|_)ce-[A-Za-z0-9]+", stem):
        sequence = "T1CE"
    return Source(str(path), subject, session, sequence)


def header_labels(sources: Sequence[Source]) -> dict[str, dict]:
    """Gives {"age": years, "sex": "M" or "F"} of DICOM sources, by path.

    Both may be None; scans that cannot be read are not in it.
    """
    labels = {}
    for source in sources:
        if is_dicom(source.path):
            try:
                series = find_series(source.path)
            except InputRefusedError:
                continue
            labels[source.path] = {"age": series.age, "sex": series.sex}
    return labels


def bare(name: str, prefix: str) -> str:
    """Gives an identifier without its BIDS prefix: `sub-01` and `01` are one."""
    return name.removeprefix(f"{prefix}-")


def _walk(path: Path) -> Iterator[Source]:
    if path.is_dir():
        yield from _walk_folder(path)
    elif is_dicom(path):
        yield _describe_series(path)
    elif not path.exists():
        raise InputRefusedError(f"{path}: wanted a file, folder or table, got nothing")
    elif path.name.lower().endswith(SUFFIXES):
        yield describe(path)
    else:
        wanted, got = ".nii, .nii.gz, DICOM, .csv, .tsv or a folder", path.suffix
        if got.lower() in DICOM_SUFFIXES:
            wanted, got = "DICOM", kind_of_file(path)
        raise InputRefusedError(f"{path}: wanted {wanted}, got {got!r}")


def _walk_folder(folder: Path) -> Iterator[Source]:
    skipped: Counter = Counter()
    files, others, maps = [], [], 0
    for file in walk(folder, skipped):
        if not file.name.lower().endswith(SUFFIXES):
            others.append(file)
        elif _is_label_map(file):
            maps += 1
        else:
            files.append(file)
    if maps:
        log.info("%s: %d label maps and masks are no scans, left out", folder, maps)
    if skipped:
        log.info("%s: folders left out: %s", folder, _counts(skipped))
    index = _index(folder, others, optional=bool(files))
    scans = [*map(describe, files), *_volumes(index)]
    if not scans:
        left = _counts(Counter(series.left_out for series in index.series))
        raise InputRefusedError(
            f"{folder}: wanted .nii, .nii.gz or DICOM scans, got none"
            + (f" but series of {left}" if left else "")
        )
    yield from scans


def _index(folder: Path, files: Sequence[Path], *, optional: bool) -> Index:
    """Gives the DICOM volumes among files, and says what is no scan of them."""
    try:
        index = index_files(files)
    except MissingExtraError as error:
        if not optional:
            raise
        log.warning("%s: DICOM files left out: %s", folder, error)
        return Index((), 0, ())
    left = Counter(s.left_out for s in index.series if s.left_out is not None)
    if left:
        log.info("%s: DICOM series left out: %s", folder, _counts(left))
    if index.without_image:
        count = index.without_image
        log.info("%s: %d DICOM files show no image, left out", folder, count)
    return index


def _counts(words: Counter) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(words.items()))


def _volumes(index: Index) -> Iterator[Source]:
    """Gives the scans of an index; damaged files that belong to none stand alone."""
    claimed = set()
    for series in index.series:
        if series.left_out is None:
            claimed.update(series.damaged)
            yield _as_source(series.name, series)
    folders = {os.path.dirname(file) for file in claimed}
    for file in index.damaged:
        if os.path.dirname(file) not in folders:
            folders.add(os.path.dirname(file))
            yield Source(file)


def _describe_series(path: Path) -> Source:
    return _as_source(str(path), find_series(path))


def _as_source(name: str, series: Series) -> Source:
    return Source(name, series.subject, series.session, series.sequence)


def _read_sources(path: Path) -> Iterator[Source]:
    table = read_table(path)
    columns = {
        "path": need_column(table, ("path",)),
        "subject": need_column(table, ("subject", "participant_id")),
        "session": find_column(table, ("session", "session_id")),
        "sequence": find_column(table, ("sequence",)),
        "mask": find_column(table, ("mask",)),
        "label_map": find_column(table, ("label_map",)),
    }
    if not table.rows:
        raise InputRefusedError(f"{path}: wanted at least 1 row, got 0")
    for line, row in table.rows:
        value = {key: _known(row[name]) for key, name in columns.items() if name}
        file = _file(path, line, "path", value["path"])
        subject, session = value["subject"], value.get("session")
        mask, label_map = value.get("mask"), value.get("label_map")
        guess = _describe_series(Path(file)) if is_dicom(file) else describe(file)
        yield Source(
            file,
            bare(subject, "sub") if subject else None,
            bare(session, "ses") if session else guess.session,
            _named(value.get("sequence")) or guess.sequence,
            _file(path, line, "mask", mask) if mask else None,
            _file(path, line, "label_map", label_map) if label_map else None,
        )


def _file(table: Path, line: int, column: str, name: str | None) -> str:
    file = table.parent / name if name else None
    if file is None or not (file.is_file() or is_dicom(file)):
        raise InputRefusedError(
            f"{table}: line {line}: column {column}: wanted a file, got {name}"
        )
    return str(file)


def _known(value: str) -> str | None:
    return None if value.lower() in _NONE else value


def _named(sequence: str | None) -> str | None:
    return (sequence_name(sequence) or sequence) if sequence else None


def name_stem(name: str) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)


def name_entity(key: str, path: Path) -> str | None:
    """Gives the value of a BIDS entity, from the file name or else its folders."""
    for part in (name_stem(path.name), *reversed(path.parts[:-1])):
        match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", part)
        if match:
            return match[1]
    return None


def name_words(stem: str) -> list[re.Match]:
    return list(re.finditer(r"[^_\-. ]+", stem))


def _sequence(stem: str) -> str | None:
    names = [sequence_name(word[0]) for word in name_words(stem)]
    return next((name for name in reversed(names) if name), None)


def _suffix(stem: str) -> str | None:
    last = stem.rsplit("_", 1)[-1]
    return None if "-" in last else last


def _plain_subject(path: Path, stem: str) -> str:
    """Gives the words around the sequence; the folder's name where there are none."""
    words = name_words(stem)
    at = [i for i, word in enumerate(words) if sequence_name(word[0])]
    if not at:
        return stem
    before = stem[: words[at[-1]].start()].strip("_-. ")
    after = stem[words[at[-1]].end() :].strip("_-. ")
    if not before and after and after.lower() not in _PROCESSING:
        return after
    return before or path.absolute().parent.name or stem


def _is_label_map(path: Path) -> bool:
    words = name_words(name_stem(path.name))
    return bool(words) and words[-1][0].lower() in LABEL_MAPS
