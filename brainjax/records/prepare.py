"""Raw scans to a prepared data set: parallel, restartable, the same bytes each time."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from brainjax.errors import InputRefusedError
from brainjax.records.labels import label_scans
from brainjax.records.sources import Source
from brainjax.records.staging import Job, Staged, stage_all, staged_path
from brainjax.records.store import (
    FORMAT,
    Shards,
    decode_record,
    read_facts,
    write_atomically,
    write_shards,
)
from brainjax.volume.recipe import AnyRecipe, recipe_from_dict

log = logging.getLogger("brainjax")


class Prepared(NamedTuple):
    """What `prepare` did: `done` scans are stored, `reused` of them were before."""

    total: int
    done: int
    reused: int
    failures: list[tuple[str, str]]


def prepare(
    sources: Sequence[Source],
    out: str | Path,
    recipe: AnyRecipe,
    *,
    labels: str | Path | None = None,
    workers: int = 1,
    orientation: str | None = None,
    progress: bool = True,
) -> Prepared:
    """Writes the canonical volumes of `sources` to the folder `out`.

    The data set holds exactly the scans of this call. What an earlier call stored or
    staged in `out`, finished or killed, is reused by content; only what is new or
    changed is made. A scan that cannot be read fails alone and is listed in
    `failures.tsv`. The result is the same, byte for byte, for any number of workers.

    Args:
      sources: the scans, as from `find_sources`; the records keep their order.
      out: a folder, made if it is not there.
      recipe: how scans become volumes.
      labels: a table of participants (.tsv, .csv); may change without redoing volumes.
      workers: processes; 1 works in this one.
      orientation: three letters for the files whose header gives none, as "RAS".
      progress: show a bar when on a terminal.

    Raises:
      InputRefusedError: no source, none that could be prepared, a malformed table, or
        `out` holds a data set of another recipe or is being written by another call.
    """
    out, sources = Path(out), list(sources)
    if not sources or workers < 1:
        raise InputRefusedError(
            f"prepare: wanted 1 scan and 1 worker or more, got {len(sources)} scans "
            f"and {workers} workers"
        )
    check_recipe(out, recipe)
    values = label_scans(sources, labels)
    with _alone(out):
        job = _make_job(out, recipe, orientation)
        outcomes = _stage(job, sources, workers, progress)
        return _finish(out, job, sources, values, outcomes)


def _make_job(out: Path, recipe: AnyRecipe, orientation: str | None) -> Job:
    """Gives the job, with what earlier calls left in `out`."""
    staging = out / "staging"
    staging.mkdir(exist_ok=True)
    stored, places = _stored(out)
    left = frozenset(path.stem for path in staging.glob("*.record"))
    return Job(staging, recipe, orientation, stored, places, left)


def _stage(
    job: Job, sources: Sequence[Source], workers: int, progress: bool
) -> list[Staged]:
    outcomes: list[Staged] = [Staged(None, False, "")] * len(sources)
    with _bar(len(sources), progress) as step:

        def note(position: int, outcome: Staged) -> None:
            outcomes[position] = outcome
            step()

        stage_all(job, sources, workers, note)
    return outcomes


def check_recipe(out: Path, recipe: AnyRecipe) -> None:
    """Refuses a folder that holds another recipe's volumes, and a file.

    Raises:
      InputRefusedError: names both recipes by their hashes.
    """
    if out.exists() and not out.is_dir():
        raise InputRefusedError(f"{out}: wanted a folder, got a file")
    facts = read_facts(out)
    if facts is not None and facts["recipe_hash"] != recipe.hash:
        raise InputRefusedError(
            f"{out}: wanted a folder of recipe {recipe.describe()} {recipe.hash}, got "
            f"one of recipe {_describe(facts['recipe'])} {facts['recipe_hash']}; "
            "prepare into another folder"
        )


def _describe(values: dict) -> str:
    try:
        return recipe_from_dict(values).describe()
    except InputRefusedError:  # of another version, whose settings may differ
        return f"{values.get('name')} version {values.get('version')}"


def _stored(out: Path) -> tuple[tuple[Shards, ...], dict[str, tuple[int, int]]]:
    """Gives the finished shard folders of `out` and where each key is in them."""
    stored, places = [], {}
    for index in sorted(out.glob("shards-*/index.json")):
        keys = json.loads(index.read_text())
        for record, key in enumerate(keys):
            places.setdefault(key, (len(stored), record))
        stored.append(Shards(index.parent, len(keys)))
    return tuple(stored), places


def _finish(
    out: Path,
    job: Job,
    sources: Sequence[Source],
    values: Sequence[dict],
    outcomes: Sequence[Staged],
) -> Prepared:
    triples = list(zip(sources, values, outcomes, strict=True))
    failures = [(s.path, o.reason) for s, _, o in triples if o.key is None]
    _write_failures(out, failures)
    good = [(s, v, o.key) for s, v, o in triples if o.key is not None]
    if not good:
        raise InputRefusedError(
            f"{out}: wanted a scan that can be prepared, got {len(failures)} that "
            f"cannot, the first: {failures[0][1]}"
        )
    keys = [key for _, _, key in good]
    _log_twins([s for s, _, _ in good], keys)
    folder, headers = _assemble(out, job, keys)
    lines = [
        json.dumps(_row(i, s, v, headers[key], job.recipe), sort_keys=True)
        for i, (s, v, key) in enumerate(good)
    ]
    _publish(out, job.recipe, folder, lines)
    reused = sum(o.reused for o in outcomes)
    return Prepared(len(sources), len(good), reused, failures)


def _assemble(out: Path, job: Job, keys: list[str]) -> tuple[Path, dict[str, dict]]:
    """Writes the shards unless they are there; gives their folder and the headers."""
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
    folder = out / f"shards-{name}"
    index = folder / "index.json"
    headers = {}

    def payload(key: str) -> bytes:
        staged = staged_path(job.staging, key)
        if staged.is_file():
            return staged.read_bytes()
        which, record = job.places[key]
        return job.stored[which].payload(record)

    def give(key: str) -> bytes:
        data = payload(key)
        headers[key] = decode_record(data)[1]
        return data

    fresh = any(staged_path(job.staging, key).is_file() for key in keys)
    if fresh or not index.is_file():
        write_shards(folder, [lambda key=key: give(key) for key in keys])
        write_atomically(index, json.dumps(keys).encode())
    else:
        for key in keys:
            give(key)
    return folder, headers


def _row(
    record: int, source: Source, labels: dict, header: dict, recipe: AnyRecipe
) -> dict:
    """Gives one line of the manifest: the scan, its provenance, its labels."""
    return {
        **header["provenance"],
        "record": record,
        "key": header["key"],
        "source": source.path,
        "mask_source": source.mask,
        # A scan without a subject is its own.
        "subject": source.subject or source.path,
        "session": source.session,
        "sequence": source.sequence,
        "labels": labels,
        "recipe": recipe.hash,
        "affine": header["affine"],
        "codes_sha256": header["codes_sha256"],
    }


def _publish(out: Path, recipe: AnyRecipe, folder: Path, lines: list[str]) -> None:
    """Makes the data set what `open_dataset` sees, then removes what it replaced."""
    manifest = "".join(f"{line}\n" for line in lines).encode()
    facts = {
        "format": FORMAT,
        "recipe": recipe.to_dict(),
        "recipe_hash": recipe.hash,
        "shape": [int(n) for n in recipe.shape],
        "count": len(lines),
        "shards": folder.name,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }
    write_atomically(out / "manifest.jsonl", manifest)
    text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    write_atomically(out / "dataset.json", text.encode())
    for old in out.glob("shards-*"):
        if old != folder:
            shutil.rmtree(old)
    shutil.rmtree(out / "staging")
    for half in out.glob("*.half"):
        half.unlink()


def _write_failures(out: Path, failures: list[tuple[str, str]]) -> None:
    if not failures:
        (out / "failures.tsv").unlink(missing_ok=True)
        return
    rows = [("path", "reason"), *failures]
    lines = ["\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows]
    write_atomically(out / "failures.tsv", "".join(lines).encode())


def _log_twins(sources: list[Source], keys: list[str]) -> None:
    first: dict[str, Source] = {}
    for source, key in zip(sources, keys, strict=True):
        twin = first.setdefault(key, source)
        if twin is not source:
            log.warning("%s has the content of %s; both kept", source.path, twin.path)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Makes `out` and keeps a second call, in this process or another, out of it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a folder to write in, got {error.strerror}"
        ) from None
    if not os.access(out, os.W_OK):
        raise InputRefusedError(f"{out}: wanted a folder to write in, got no right to")
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputRefusedError(
            f"{out}: wanted a folder for this call alone, got one that another "
            "prepare is writing to"
        ) from None
    finally:
        os.close(folder)


@contextlib.contextmanager
def _bar(total: int, wanted: bool) -> Iterator:
    """Gives a function to call for every scan that is done; a bar on a terminal."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda: None
        return
    columns = ("preparing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("scans", total=total)
        yield lambda: bar.advance(task)
