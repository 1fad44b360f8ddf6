"""One subject from draw to files."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainjax.phantom.anatomy import Anatomy, make_grid
from brainjax.phantom.atlas import Atlas
from brainjax.phantom.contrast import inside_mask, make_contrast, make_labels
from brainjax.phantom.effects import make_anatomy
from brainjax.phantom.latents import Subject
from brainjax.phantom.scanner import draw_scanner, scan_image
from brainjax.phantom.store import (
    draw_placement,
    draw_storage,
    encode,
    quantise,
    write_whole,
)
from brainjax.phantom.truth import Features, histogram_features


class Settings(NamedTuple):
    """What decides the bytes of a cohort, with the subject's number."""

    seed: int
    spacing: float
    head: bool
    arms: tuple[str, ...]


class Made(NamedTuple):
    """What a subject leaves for the tables of the cohort."""

    number: int
    answers: dict[str, float]
    features: list[Features]


def subject_name(number: int) -> str:
    """Gives the BIDS name of subject `number`, from 1.

    >>> subject_name(7)
    'sub-0007'
    """
    return f"sub-{number:04d}"


def scan_path(out: Path, number: int, suffix: str) -> Path:
    """Gives where a file of a subject lies: suffix is a sequence or `dseg`."""
    name = subject_name(number)
    return out / name / "anat" / f"{name}_{suffix}.nii.gz"


def make_subject(
    out: Path,
    subject: Subject,
    atlas: Atlas,
    settings: Settings,
    sequences: tuple[str, ...],
) -> Made:
    """Writes scans, true labels and notes of a subject; what is finished is kept."""
    note = (
        scan_path(out, subject.number, "phantom").with_suffix("").with_suffix(".json")
    )
    made = _finished(out, note, subject.number, sequences)
    if made is not None:
        return made
    grid = make_grid(settings.spacing, head=settings.head)
    anatomy = make_anatomy(subject, atlas, grid, head=settings.head)
    placement = draw_placement(subject.stream("placement"))
    labels = encode(make_labels(anatomy), grid, placement)
    write_whole(scan_path(out, subject.number, "dseg"), labels)
    mask = inside_mask(anatomy)
    features = []
    for sequence in sequences:
        codes, slope = _scan(anatomy, subject, sequence, mask)
        content = encode(codes, grid, placement, slope)
        write_whole(scan_path(out, subject.number, sequence), content)
        values = histogram_features(codes, mask, settings.spacing)
        features.append(Features(subject.number, sequence, values))
    made = Made(subject.number, anatomy.answers, features)
    # Written last: a note says that the files it speaks of are whole.
    write_whole(note, _to_json(made).encode())
    return made


def _scan(
    anatomy: Anatomy, subject: Subject, sequence: str, mask: np.ndarray
) -> tuple[np.ndarray, float]:
    """Stored integers [x, y, z] of one scan in RAS+, and their slope."""
    rng = subject.stream(f"scan {sequence}")
    kept = None if anatomy.head else mask
    scanner = draw_scanner(rng, anatomy.grid)
    storage = draw_storage(rng)
    image = make_contrast(anatomy, sequence, rng)
    image = scan_image(image, scanner, anatomy.grid, rng, kept)
    return quantise(image, storage, kept), storage.slope


def _to_json(made: Made) -> str:
    features = {scan.sequence: scan.values for scan in made.features}
    return json.dumps({"answers": made.answers, "histogram": features})


def _finished(
    out: Path, note: Path, number: int, sequences: tuple[str, ...]
) -> Made | None:
    """What an earlier run left of a subject, where all of it is there."""
    files = [scan_path(out, number, name) for name in (*sequences, "dseg")]
    if not note.exists() or not all(path.exists() for path in files):
        return None
    known = json.loads(note.read_text())
    if any(name not in known["histogram"] for name in sequences):
        return None
    features = [
        Features(number, name, tuple(known["histogram"][name])) for name in sequences
    ]
    return Made(number, known["answers"], features)
