"""One scan to one staged record, in this process or in others that may die."""

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.encoding import decode_record, encode_record
from brainjax.records.kept import is_kept, read_reference, write_kept
from brainjax.records.label_maps import StagedMap, stage_label_map
from brainjax.records.runners import Outcome, Way, run_tasks
from brainjax.records.sessions import Waves, plan_sessions
from brainjax.records.sources import Source
from brainjax.records.store import Shards
from brainjax.records.writing import write_atomically
from brainjax.volume.canonical import Codes
from brainjax.volume.dicom import digest_source
from brainjax.volume.dicom_kept import hand_over
from brainjax.volume.recipe import (
    AlignedRecipe,
    AnyRecipe,
    Reference,
    prepare_and_keep,
)

log = logging.getLogger("brainjax")


class Job(NamedTuple):
    """What every scan of one preparation shares.

    call: a word for this call alone, so that what processes remember is of now.
    """

    out: Path
    recipe: AnyRecipe
    orientation: str | None
    call: str = ""

    @property
    def staging(self) -> Path:
        """The folder of records that are not in shards yet."""
        return self.out / "staging"

    @property
    def aside(self) -> Path:
        """The folder of records that were left out of the data set."""
        return self.out / "aside"


class Task(NamedTuple):
    """A scan, and the prepared scan of its session that it goes through."""

    source: Source
    reference: Source | None = None
    reference_key: str = ""


class Staged(NamedTuple):
    """The outcome of one scan: the key of its record, or why there is none.

    made: whether this call made it. label_map: the outcome of its label map.
    """

    key: str | None
    made: bool
    reason: str
    label_map: StagedMap = StagedMap()


class Stored(NamedTuple):
    """Finished shards, and where each key is: (which of them, record)."""

    shards: tuple[Shards, ...]
    places: dict[str, tuple[int, int]]


Done = Callable[[int, Staged], None]


def stage_all(job: Job, sources: Sequence[Source], way: Way, done: Done) -> None:
    """Stages every scan and tells `done(position, outcome)` of each, in any order.

    References of sessions come first. A scan whose process dies or takes too long
    fails alone.
    """
    work = functools.partial(stage, job)
    waves = Waves(plan_sessions(sources, job.recipe))
    keys: dict[int, str] = {}
    while wave := waves.next(set(keys)):
        positions = [position for position, _ in wave]
        tasks = [
            Task(sources[p])
            if reference is None
            else Task(sources[p], sources[reference], keys[reference])
            for p, reference in wave
        ]

        def note(number: int, outcome: Outcome, positions=positions) -> None:
            position = positions[number]
            staged = outcome.result
            if outcome.error is not None:
                path = sources[position].path
                staged = Staged(None, False, f"{path}: {outcome.error}")
            if staged.key is not None:
                keys[position] = staged.key
            done(position, staged)

        elsewhere = way.scheduler or way.cluster
        if elsewhere:
            run_tasks(work, tasks, way, note, shared=job.staging)
        else:
            run_tasks(work, tasks, way, note, setup=hand_over())


def stage(job: Job, task: Task) -> Staged:
    """Makes the record of a scan, and of its label map, unless they are there."""
    source = task.source
    staged = _stage_scan(job, task)
    if staged.key is None:
        return staged
    read = functools.partial(_read_record, job, staged.key)
    found = stage_label_map(job.out, source, staged.key, read, job.orientation)
    return staged._replace(label_map=found)


def _stage_scan(job: Job, task: Task) -> Staged:
    source = task.source
    try:
        key = record_key(source, job.recipe, job.orientation, task.reference_key)
        path = staged_path(job.staging, key)
        if _is_there(job, key, path):
            return Staged(key, False, "")
        volume, kept = prepare_and_keep(
            source.path,
            job.recipe,
            mask_path=source.mask,
            orientation=job.orientation,
            reference=_reference(job, task),
        )
        if kept is not None:
            write_kept(job.out, key, kept, volume.affine)
        # The record is of the content: the same bytes wherever the file lies.
        facts = {k: v for k, v in volume.provenance.items() if k not in _PLACES}
        header = {"key": key, "affine": volume.affine.tolist(), "provenance": facts}
        write_atomically(path, encode_record(volume.codes, header))
        return Staged(key, True, "")
    except InputRefusedError as error:
        return Staged(None, False, str(error))
    except Exception as error:  # a bad file fails alone, whatever it sets off
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Staged(None, False, f"{source.path}: {reason}")


_PLACES = ("source", "mask_source", "mask_path")


def record_key(
    source: Source, recipe: AnyRecipe, orientation: str | None, reference: str = ""
) -> str:
    """Gives the name of a record: sha256 of all that decides its bytes."""
    parts = [digest_source(source.path)]
    parts.append(digest_source(source.mask) if source.mask else "-")
    parts += [recipe.hash, orientation or "-", *([reference] if reference else [])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def staged_path(staging: Path, key: str) -> Path:
    """Gives the file of a staged record."""
    return staging / f"{key}.record"


@functools.lru_cache(maxsize=1)
def read_stored(out: Path, call: str) -> Stored:
    """Gives the finished shard folders of `out`, as they were when `call` began."""
    shards: list[Shards] = []
    places: dict[str, tuple[int, int]] = {}
    for index in sorted(out.glob("shards-*/index.json")):
        keys = json.loads(index.read_text())
        for record, key in enumerate(keys):
            places.setdefault(key, (len(shards), record))
        shards.append(Shards(index.parent, len(keys)))
    return Stored(tuple(shards), places)


def _is_there(job: Job, key: str, path: Path) -> bool:
    """Whether a record, and what its recipe keeps beside it, were made before."""
    if isinstance(job.recipe, AlignedRecipe) and not is_kept(job.out, key):
        return False
    if _is_stored(job, key) or _is_staged(path):
        return True
    aside = staged_path(job.aside, key)
    if not _is_staged(aside):
        return False
    aside.replace(path)
    return True


def _is_stored(job: Job, key: str) -> bool:
    stored = read_stored(job.out, job.call)
    if key not in stored.places:
        return False
    which, record = stored.places[key]
    try:
        return stored.shards[which].read(record)[1]["key"] == key
    except InputRefusedError as error:
        log.warning("making a record anew: %s", error)
        return False


def _read_record(job: Job, key: str) -> tuple[Codes, dict]:
    path = staged_path(job.staging, key)
    if path.is_file():
        return decode_record(path.read_bytes())
    stored = read_stored(job.out, job.call)
    which, record = stored.places[key]
    return stored.shards[which].read(record)


def _is_staged(path: Path) -> bool:
    try:
        decode_record(path.read_bytes())
    except (OSError, ValueError, KeyError):
        return False
    return True


def _reference(job: Job, task: Task) -> Reference | None:
    if task.reference is None:
        return None
    return _read_reference(job.out, task.reference_key, task.reference, job.orientation)


_read_reference = functools.lru_cache(maxsize=1)(read_reference)
"""The last one: the scans of a session come one after another."""
