"""The door of the room: a whole cohort, in a pool of processes."""

import csv
import functools
import io
import json
import multiprocessing
import numbers
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.progress import track

from brainjax.anatomy import SEQUENCES
from brainjax.errors import InputRefusedError
from brainjax.phantom.arms import (
    COLUMNS,
    PLAIN,
    check_arms,
    labels_of,
    latents_of,
    member,
)
from brainjax.phantom.atlas import Atlas, build_atlas, load_atlas, save_atlas
from brainjax.phantom.latents import Latents, Subject, oracle_age, oracle_male
from brainjax.phantom.store import write_whole
from brainjax.phantom.subject import Made, Settings, make_subject, subject_name
from brainjax.phantom.truth import measure_truth

VERSION = 1
"""Raised whenever the same seed gives other bytes."""

SPACINGS = (0.8, 8.0)
"""Smallest and largest voxel edge in mm."""

MAX_SEED = 2**63


def cohort(
    out: str | Path,
    *,
    subjects: int,
    seed: int = 0,
    spacing: float = 2.0,
    head: bool = False,
    sequences: tuple[str, ...] = ("T1w",),
    arms: tuple[str, ...] = PLAIN,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Writes a BIDS-like cohort with known answers; gives its participants.tsv.

    Every subject gets every sequence of one anatomy. `spacing` is in mm. The bytes
    depend on (seed, subject, spacing, head) and the subject's arm alone. Run again with
    the same of these it keeps what is finished; more subjects or sequences are added.

    Subject n is of arm `arms[(n - 1) % len(arms)]`: healthy, mci, glioma, stroke. The
    arms bring their columns to participants.tsv, n/a where they do not apply.

    Raises InputRefusedError for settings it cannot use and for a folder that holds
    another cohort, MissingExtraError where nilearn is absent.
    """
    out, sequences = Path(out), tuple(sequences)
    _check(subjects, seed, spacing, sequences, workers)
    check_arms(tuple(arms))
    settings = Settings(int(seed), float(spacing), bool(head), tuple(arms))
    _claim(out, settings)
    numbers_ = range(1, subjects + 1)
    with tempfile.TemporaryDirectory(prefix="brainjax-phantom-") as folder:
        save_atlas(build_atlas(settings.spacing), Path(folder))
        job = functools.partial(_job, folder, out, settings, sequences)
        made = _run(job, numbers_, workers)
        words = f"phantom, {subjects} subjects"
        made = list(track(made, words, total=subjects, disable=not progress))
    _write_tables(out, settings, sequences, made)
    return out / "participants.tsv"


def _check(
    subjects: int, seed: int, spacing: float, sequences: tuple[str, ...], workers: int
) -> None:
    for name, value, low in (("subjects", subjects, 1), ("workers", workers, 1)):
        if not isinstance(value, numbers.Integral) or value < low:
            raise InputRefusedError(f"{name}: wanted at least {low}, got {value!r}")
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < MAX_SEED:
        raise InputRefusedError(f"seed: wanted 0 to 2**63 - 1, got {seed!r}")
    if not isinstance(spacing, numbers.Real) or not (
        SPACINGS[0] <= spacing <= SPACINGS[1]
    ):
        raise InputRefusedError(
            f"spacing: wanted {SPACINGS[0]} to {SPACINGS[1]} mm, got {spacing!r}"
        )
    unknown = [name for name in sequences if name not in SEQUENCES]
    if unknown or not sequences or len(set(sequences)) < len(sequences):
        raise InputRefusedError(
            f"sequences: wanted some of {', '.join(SEQUENCES)}, each once, "
            f"got {', '.join(sequences) or 'none'}"
        )


def _claim(out: Path, settings: Settings) -> None:
    """Notes what the folder holds, or checks that it holds just that."""
    note = out / "phantom.json"
    wanted = _stated(settings)
    if note.exists():
        found = json.loads(note.read_text())
        if found != wanted:
            raise InputRefusedError(
                f"{out}: wanted a folder for {wanted}, got one that holds {found}"
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(note, (json.dumps(wanted) + "\n").encode())
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a folder to write in, got {error.strerror}"
        ) from None


def _stated(settings: Settings) -> dict:
    """The settings as they are noted: arms only where there are some."""
    stated = {"version": VERSION, **settings._asdict(), "arms": list(settings.arms)}
    if settings.arms == PLAIN:
        del stated["arms"]
    return stated


def _run(job, subjects: range, workers: int) -> Iterator[Made]:
    """Results in the order of the subjects; one worker needs no other process."""
    if workers == 1 or len(subjects) == 1:
        yield from map(job, subjects)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            yield from pool.map(job, subjects)
        finally:
            pool.shutdown(cancel_futures=True)


def _job(
    folder: str, out: Path, settings: Settings, sequences: tuple[str, ...], number: int
) -> Made:
    subject = member(settings.seed, number, settings.arms)
    return make_subject(out, subject, _atlas(folder), settings, sequences)


@functools.lru_cache(maxsize=1)
def _atlas(folder: str) -> Atlas:
    return load_atlas(Path(folder))


def _write_tables(
    out: Path, settings: Settings, sequences: tuple[str, ...], made: list[Made]
) -> None:
    people = [member(settings.seed, m.number, settings.arms) for m in made]
    _write_participants(out / "participants.tsv", people)
    _write_latents(out / "latents.tsv", people, made)
    truth = {
        **_stated(settings),
        "subjects": len(made),
        "sequences": list(sequences),
        "targets": measure_truth(people, [f for m in made for f in m.features]),
    }
    write_whole(out / "truth.json", (json.dumps(truth, indent=2) + "\n").encode())
    shutil.copyfile(Path(__file__).with_name("README.md"), out / "README")


def _write_participants(path: Path, people: list[Subject]) -> None:
    """What a study would know: age and sex, and the labels of the arms."""
    arms = any(person.arm for person in people)
    header = ["participant_id", "age", "sex", *(COLUMNS if arms else ())]
    rows = [
        [subject_name(p.number), p.latents.age, p.latents.sex]
        + (labels_of(p) if arms else [])
        for p in people
    ]
    _write_tsv(path, header, rows)


def _write_latents(path: Path, people: list[Subject], made: list[Made]) -> None:
    """What nobody would know, what an oracle makes of it, what effects noted."""
    hidden = [{**latents_of(p), **m.answers} for p, m in zip(people, made, strict=True)]
    extra = list(dict.fromkeys(name for row in hidden for name in row))
    header = ["participant_id", *Latents._fields, "oracle_age", "oracle_male", *extra]
    rows = [
        [
            subject_name(person.number),
            *person.latents,
            oracle_age(person.latents),
            oracle_male(person.latents),
            *(row.get(key, "n/a") for key in extra),
        ]
        for person, row in zip(people, hidden, strict=True)
    ]
    _write_tsv(path, header, rows)


def _write_tsv(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{v:.4g}" if isinstance(v, float) else v for v in row])
    write_whole(path, text.getvalue().encode())
