"""Which volumes lie in a folder of DICOM files: told by content, not by names.

Files are grouped by series, and within a series by all that cannot be one volume: size,
direction, echo, image type, b-value; then, where two planes lie in one place, by their
time, acquisition or inversion.
"""

import hashlib
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.volume.dicom_elements import looks_like_dicom, quietly
from brainjax.volume.dicom_groups import Group, split_series
from brainjax.volume.dicom_header import Header, Plane, read_header
from brainjax.volume.dicom_kept import remember
from brainjax.volume.dicom_sequence import Guess, guess_sequence
from brainjax.volume.folders import walk

log = logging.getLogger("brainjax")

NAME_DIGITS = 12
"""Of an identity in a name: of 10,000 two are alike once in 5 million times."""

MIN_SLICES = 8
"""A volume has at least so many slices."""

PSEUDONYM_KEY = "BRAINJAX_PSEUDONYM_KEY"
"""Variable of the environment: whoever has not this key cannot test a patient's id."""

_NOT_DICOM = (
    *(".nii", ".nii.gz", ".json", ".csv", ".tsv", ".txt", ".md", ".png", ".jpg"),
    *(".pdf", ".html", ".zip", ".gz", ".py", ".log", ".bval", ".bvec", ".mat", ".xml"),
)
_NO_IMAGE = "no image"
_NO_PATIENT = re.compile(
    r"(anon(ymous|ymi[sz]ed|ym)?|unknown|none|n/?a|x+|0*|patient|subject|test)?"
)


class Series(NamedTuple):
    """One volume of a DICOM series: where it lies, and what may be known of it.

    name: stands for the scan everywhere a path does: its folder where it is the only
    volume in it, otherwise `folder::` and NAME_DIGITS hexadecimal digits. hints: of a
    closed list, as they go into a provenance. left_out: why it is no anatomical scan.
    fault: why no volume can be made of it, a line that names a file, or None. damaged:
    files beside it that could not be read. identity: a hash that tells it from others.
    """

    folder: str
    name: str
    files: tuple[str, ...]
    hints: dict
    subject: str | None
    session: str | None
    sequence: str | None
    age: int | None
    sex: str | None
    left_out: str | None
    fault: str | None
    damaged: tuple[str, ...]
    identity: str
    planes: tuple[Plane, ...]
    grid: tuple[int, int, float, float]
    orientation: tuple[float, ...]


class Index(NamedTuple):
    """The volumes of some files, how many files show no image, and damaged files."""

    series: tuple[Series, ...]
    without_image: int
    damaged: tuple[str, ...]


def index_folder(folder: str | Path) -> list[Series]:
    """Gives the volumes under a folder, sorted by subject, study and series number.

    Those that are no anatomical MR scans are there too, with `left_out`. The answer is
    kept in this process until a file changes.

    Raises:
      MissingExtraError: there are DICOM files, and pydicom is not installed.
    """
    return list(index_files(walk(folder)).series)


def index_files(files: Iterable[Path]) -> Index:
    """Gives the volumes of those files that are DICOM; headers are read, no pixels."""
    marks = [mark for file in files if (mark := _mark(file)) is not None]
    return remember(_index, tuple(marks), os.environ.get(PSEUDONYM_KEY, ""))


def _mark(file: Path) -> tuple[str, int, int] | None:
    """Gives what changes when a file does; None of one that is gone or no DICOM."""
    if file.name.lower().endswith(_NOT_DICOM):
        return None
    try:
        stat = os.stat(file)
    except OSError:  # a link to nothing
        return None
    return str(file), stat.st_size, stat.st_mtime_ns


def _index(marks: tuple[tuple[str, int, int], ...], key: str) -> Index:
    by_series, damaged, without_image = defaultdict(list), [], 0
    pool: dict = {}
    with quietly():
        for name, *_ in marks:
            if not looks_like_dicom(name):
                continue
            header = _read(name)
            if isinstance(header, Header):
                by_series[header.series].append(_pooled(header, pool))
            elif header == _NO_IMAGE:
                without_image += 1
            else:
                log.warning("%s", header)
                damaged.append(name)
    groups = [group for one in by_series.values() for group in split_series(one)]
    return Index(_named(groups, damaged, key), without_image, tuple(damaged))


def _read(name: str) -> Header | str:
    """Gives the header of a file, or a line that says why there is none."""
    try:
        return read_header(name) or _NO_IMAGE
    except MissingExtraError:
        raise
    except InputRefusedError as error:
        return str(error)
    except Exception as error:  # sequences in a header nest what they like
        kind = type(error).__name__
        return f"{name}: wanted a DICOM header, got a damaged one ({kind})"


def _pooled(header: Header, pool: dict) -> Header:
    """Gives the header with what others have too held once: there may be millions."""

    def one(value: Any, key: Any = None) -> Any:
        return pool.setdefault(value if key is None else key, value)

    images = tuple(
        image._replace(
            grid=one(image.grid),
            orientation=one(image.orientation),
            kind=one(image.kind),
            repeats=one(image.repeats),
        )
        for image in header.images
    )
    facts = one(header.facts, repr(header.facts))
    texts = {name: one(getattr(header, name)) for name in ("series", "study", "words")}
    return header._replace(
        images=images,
        facts=facts,
        timing=one(header.timing),
        image_type=one(header.image_type),
        patient=one(header.patient),
        order=one(header.order),
        **texts,
    )


def _named(groups: list[Group], damaged: list[str], key: str) -> tuple[Series, ...]:
    """Gives each group its name, which depends on what else lies in its folder."""
    scouts = _scouts(groups)
    guesses = [_guess(group.header, scouts) for group in groups]
    files = [_files(group) for group in groups]
    taken: Counter = Counter()
    for guess, names in zip(guesses, files, strict=True):
        if guess.left_out is None:
            taken.update({p for name in names for p in map(str, Path(name).parents)})
    series = []
    for group, guess, names in zip(groups, guesses, files, strict=True):
        folder = os.path.commonpath([os.path.dirname(name) or "." for name in names])
        alone = guess.left_out is None and taken[str(Path(folder))] == 1
        name = folder if alone else f"{folder}::{group.identity[:NAME_DIGITS]}"
        beside = _beside(names, damaged)
        if alone and beside:
            fault = f"{beside[0]}: wanted a readable slice, got a damaged header"
            group = group._replace(fault=group.fault or fault)
        series.append(_series(group, guess, name, folder, names, beside, key))
    order = {s.name: g.header.order for s, g in zip(series, groups, strict=True)}
    series.sort(key=lambda s: (s.subject or "", *order[s.name], s.identity))
    return tuple(series)


def _files(group: Group) -> tuple[str, ...]:
    files = dict.fromkeys(image.plane.file for image in group.images)
    return tuple(files) or (group.header.file,)


def _beside(names: tuple, damaged: list[str]) -> tuple[str, ...]:
    """Gives the damaged files that may belong to a volume: those in its folders."""
    folders = {os.path.dirname(name) for name in names}
    return tuple(sorted(f for f in damaged if os.path.dirname(f) in folders))


def _scouts(groups: list[Group]) -> set[str]:
    """Gives the series of a few slices each in three directions or more."""
    parts = defaultdict(list)
    for group in groups:
        parts[group.header.series].append(group.images)
    return {
        series
        for series, volumes in parts.items()
        if max(map(len, volumes)) < MIN_SLICES
        and len({images[0].orientation for images in volumes if images}) > 2
    }


def _guess(header: Header, scouts: set[str]) -> Guess:
    if header.modality != "MR":
        return Guess(None, header.modality or "no modality")
    if header.series in scouts:
        return Guess(None, "localiser")
    return guess_sequence(
        header.words,
        header.image_type,
        header.timing,
        contrast=header.facts["contrast"],
        body_part=header.body_part,
    )


def _series(
    group: Group,
    guess: Guess,
    name: str,
    folder: str,
    files: tuple[str, ...],
    damaged: tuple[str, ...],
    key: str,
) -> Series:
    header = group.header
    subject = _entity("sub", folder) or _patient(header, key)
    study = _pseudonym(header.study, key, 6) if header.study else None
    hints = {**header.facts, "sequence": guess.sequence}
    first = group.images[0] if group.images else None
    return Series(
        folder=folder,
        name=name,
        files=files,
        hints=hints,
        subject=subject,
        session=_entity("ses", folder) or (f"study{study}" if study else None),
        sequence=guess.sequence,
        age=header.age,
        sex=header.sex,
        left_out=guess.left_out,
        fault=group.fault,
        damaged=damaged,
        identity=group.identity,
        planes=tuple(image.plane for image in group.images),
        grid=first.grid if first else (0, 0, 0.0, 0.0),
        orientation=first.orientation if first else (),
    )


def _patient(header: Header, key: str) -> str | None:
    """Gives a pseudonym of the patient; of the study where no patient is named.

    Scans of one study must not become those of several subjects.
    """
    patient = header.patient.strip()
    if _NO_PATIENT.fullmatch(patient.lower()):
        patient = f"study {header.study}" if header.study else ""
    return f"p{_pseudonym(patient, key, 10)}" if patient else None


def _pseudonym(text: str, key: str, digits: int) -> str:
    secret = hashlib.blake2b(key.encode()).digest() if key else b""
    digest = hashlib.blake2b(text.encode(), digest_size=digits // 2, key=secret)
    return digest.hexdigest()


def _entity(key: str, folder: str) -> str | None:
    """Gives the value of a BIDS entity in the folders of a path."""
    for part in reversed(Path(folder).parts):
        match = re.fullmatch(rf"{key}-([A-Za-z0-9]+)", part)
        if match:
            return match[1]
    return None
