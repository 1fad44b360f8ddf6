"""Staged records to a data set: shards, manifest, what failed and what stands out."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError
from brainjax.records.encoding import decode_record
from brainjax.records.flags import flag
from brainjax.records.kept import read_kept_facts, remove_others
from brainjax.records.label_maps import StagedMap
from brainjax.records.label_maps import remove_others as remove_other_maps
from brainjax.records.qc_table import write_qc_table
from brainjax.records.sources import Source
from brainjax.records.staging import Job, Staged, read_stored, staged_path
from brainjax.records.store import FORMAT, write_shards
from brainjax.records.writing import write_atomically
from brainjax.volume.recipe import AnyRecipe

log = logging.getLogger("brainjax")

TABLE = "qc.tsv"
"""Beside the data set: what was measured of every scan."""


class Prepared(NamedTuple):
    """What `prepare` did: `done` scans are stored, `reused` of them were before.

    flagged: scans whose measures of quality stand out. label_maps: how many scans
    have one; bad_maps: label maps that could not be taken in, and why.
    """

    total: int
    done: int
    reused: int
    failures: list[tuple[str, str]]
    flagged: int = 0
    label_maps: int = 0
    bad_maps: Sequence[tuple[str, str]] = ()


def finish(
    job: Job,
    sources: Sequence[Source],
    values: Sequence[dict],
    outcomes: Sequence[Staged],
    *,
    exclude_flagged: bool,
    unclear: Sequence[tuple[str, str]] = (),
) -> Prepared:
    """Makes the staged scans of `sources` the data set, after the last was tried.

    unclear: scans for which no label map could be told, and why.

    Raises:
      InputRefusedError: none is left.
    """
    out = job.out
    triples = list(zip(sources, values, outcomes, strict=True))
    failures = [(s.path, o.reason) for s, _, o in triples if o.key is None]
    bad_maps = [*unclear, *_bad_maps(sources, outcomes)]
    _write_failures(out, [*failures, *bad_maps])
    good = [(s, v, o.key) for s, v, o in triples if o.key is not None]
    maps = {s: o.label_map for s, _, o in triples}
    if not good:
        raise InputRefusedError(
            f"{out}: wanted a scan that can be prepared, got {len(failures)} that "
            f"cannot, the first: {failures[0][1]}"
        )
    flagged = _judge(out, [s for s, _, _ in good], [key for _, _, key in good])
    if exclude_flagged:
        good = [row for row, flags in zip(good, flagged, strict=True) if not flags]
        if not good:
            raise InputRefusedError(
                f"{out}: wanted a scan that does not stand out, got {len(flagged)} "
                f"that do; {out / TABLE} says why"
            )
    keys = [key for _, _, key in good]
    _log_leavers(job, {o.key for o in outcomes if o.key is not None})
    _log_twins([s for s, _, _ in good], keys)
    folder, headers = _assemble(job, keys)
    lines = [
        json.dumps(
            _row(i, s, v, headers[key], job.recipe) | _map_row(s, maps), sort_keys=True
        )
        for i, (s, v, key) in enumerate(good)
    ]
    _set_aside(job, {o.key for o in outcomes if o.key is not None} - set(keys))
    _publish(out, job.recipe, folder, lines)
    remove_others(out, {o.key for o in outcomes if o.key is not None})
    remove_other_maps(out, {m.name for m in maps.values() if m.name is not None})
    reused = sum(o.key is not None and not o.made for o in outcomes)
    total = sum(bool(flags) for flags in flagged)
    labelled = sum(maps[s].name is not None for s, _, _ in good)
    done = len(sources), len(good), reused, failures, total
    return Prepared(*done, labelled, bad_maps)


def _judge(
    out: Path, sources: Sequence[Source], keys: Sequence[str]
) -> list[tuple[str, ...]]:
    """Writes `qc.tsv` of what is kept; gives what stands out in each scan."""
    facts = [read_kept_facts(out, key) for key in keys]
    if not any(facts):
        (out / TABLE).unlink(missing_ok=True)
        return [()] * len(keys)
    rows = [
        {
            **{name: getattr(s, name) for name in ("subject", "session", "sequence")},
            "source": s.path,
            "key": key,
            **fact,
        }
        for s, key, fact in zip(sources, keys, facts, strict=True)
    ]
    flagged = _with_reference(rows, flag(rows))
    rows = [{**r, "flags": list(f)} for r, f in zip(rows, flagged, strict=True)]
    write_qc_table(out / TABLE, rows)
    return flagged


def _with_reference(
    rows: Sequence[dict], flagged: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Flags what went to the template through a scan that stands out."""
    odd = {row["source"] for row, flags in zip(rows, flagged, strict=True) if flags}
    return [
        (*flags, "its reference stands out") if row.get("reference") in odd else flags
        for row, flags in zip(rows, flagged, strict=True)
    ]


def _assemble(job: Job, keys: list[str]) -> tuple[Path, dict[str, dict]]:
    """Writes the shards unless they are there; gives their folder and the headers."""
    name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
    folder = job.out / f"shards-{name}"
    index = folder / "index.json"
    stored = read_stored(job.out, job.call)
    headers = {}

    def payload(key: str) -> bytes:
        staged = staged_path(job.staging, key)
        if staged.is_file():
            return staged.read_bytes()
        which, record = stored.places[key]
        return stored.shards[which].payload(record)

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


def _map_row(source: Source, maps: Mapping[Source, StagedMap]) -> dict:
    """Gives what a line of the manifest says of label maps, where any scan has one."""
    if all(other.label_map is None for other in maps):
        return {}
    staged = maps[source]
    return {
        "label_map": staged.name,
        "label_map_source": source.label_map if staged.name else None,
        "label_map_sha256": staged.sha256 or None,
    }


def _bad_maps(
    sources: Sequence[Source], outcomes: Sequence[Staged]
) -> list[tuple[str, str]]:
    """Gives label maps that were refused and why, once where scans share one."""
    found = {
        (str(source.label_map), outcome.label_map.reason): None
        for source, outcome in zip(sources, outcomes, strict=True)
        if outcome.label_map.reason
    }
    return list(found)


def _set_aside(job: Job, keys: set[str]) -> None:
    """Keeps the records of scans that were left out, so that none is made twice."""
    stored = read_stored(job.out, job.call)
    job.aside.mkdir(exist_ok=True)
    for key in keys:
        staged, aside = staged_path(job.staging, key), staged_path(job.aside, key)
        if staged.is_file():
            staged.replace(aside)
        elif key in stored.places:
            which, record = stored.places[key]
            write_atomically(aside, stored.shards[which].payload(record))
    for path in job.aside.iterdir():
        if path.stem not in keys:
            path.unlink()
    if not keys:
        job.aside.rmdir()


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


def _log_leavers(job: Job, keys: set[str]) -> None:
    gone = len(set(read_stored(job.out, job.call).places) - keys)
    if gone:
        log.warning(
            "%s: %d scans of an earlier call are not among these and leave the data "
            "set; name all of its scans to keep them",
            job.out,
            gone,
        )


def _log_twins(sources: list[Source], keys: list[str]) -> None:
    first: dict[str, Source] = {}
    for source, key in zip(sources, keys, strict=True):
        twin = first.setdefault(key, source)
        if twin is not source:
            log.warning("%s has the content of %s; both kept", source.path, twin.path)
