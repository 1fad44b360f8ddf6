"""Raw scans to a prepared data set: parallel, restartable, the same bytes each time."""

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from brainjax.errors import InputRefusedError
from brainjax.records.label_maps import check_label_maps
from brainjax.records.labels import label_scans
from brainjax.records.pairing import pair_label_maps
from brainjax.records.publish import Prepared, finish
from brainjax.records.runners import Way, check_way
from brainjax.records.sources import Source
from brainjax.records.sources import header_labels as read_header_labels
from brainjax.records.staging import Job, Staged, read_stored, stage_all
from brainjax.records.store import read_facts
from brainjax.records.writing import make_folder
from brainjax.volume.aligned_recipe import AlignedRecipe, check_installed
from brainjax.volume.recipe import AnyRecipe, recipe_from_dict

__all__ = ["Prepared", "check_recipe", "prepare"]


def prepare(
    sources: Sequence[Source],
    out: str | Path,
    recipe: AnyRecipe,
    *,
    labels: str | Path | None = None,
    label_maps: str | None = None,
    workers: int = 1,
    orientation: str | None = None,
    way: Way | None = None,
    header_labels: bool = False,
    exclude_flagged: bool = False,
    progress: bool = True,
) -> Prepared:
    """Writes the canonical volumes of `sources` to the folder `out`.

    The data set holds exactly the scans of this call. What an earlier call stored or
    staged in `out`, finished or killed, is reused by content; only what is new or
    changed is made. A scan that cannot be read fails alone and is listed in
    `failures.tsv`. The result is the same, byte for byte, for any number of workers,
    on one machine or many.

    Recipes that look for the brain keep a folder a scan in `kept/`: its mask, its
    transforms, what was measured, pictures; and `qc.tsv` says whose measures stand out.

    Args:
      sources: the scans, as from `find_sources`; the records keep their order.
      out: a folder, made if it is not there.
      recipe: how scans become volumes.
      labels: a table of participants (.tsv, .csv); may change without redoing volumes.
      label_maps: last word of the names of label maps that lie beside the scans, as
        "dseg"; they are stored on the grid of the volumes. See `pair_label_maps`.
      workers: processes; 1 works in this one.
      orientation: three letters for the files whose header gives none, as "RAS".
      way: where and how long scans are worked on; `workers` processes if None.
      header_labels: age and sex from DICOM headers, where the table has none.
      exclude_flagged: leave out the scans that stand out; `qc.tsv` lists them.
      progress: show a bar when on a terminal.

    Raises:
      InputRefusedError: no source, none that could be prepared, a malformed table, a
        full disk, or `out` holds a data set of another recipe or is being written by
        another call.
    """
    out, sources = Path(out), list(sources)
    way = way if way is not None else Way(workers=workers)
    if not sources or way.workers < 1:
        raise InputRefusedError(
            f"prepare: wanted 1 scan and 1 worker or more, got {len(sources)} scans "
            f"and {way.workers} workers"
        )
    if way.limit_s is not None and not way.limit_s > 0:
        raise InputRefusedError(
            f"limit-s: wanted more than 0 seconds, got {way.limit_s:g}"
        )
    check_recipe(out, recipe)
    check_way(way)
    if isinstance(recipe, AlignedRecipe):
        check_installed(recipe)
    elif exclude_flagged:
        raise InputRefusedError(
            f"exclude-flagged: wanted a recipe that finds the brain, whose quality is "
            f"measured, got {recipe.describe()}"
        )
    check_label_maps(sources, recipe, label_maps)
    unclear = []
    if label_maps is not None:
        sources, unclear = pair_label_maps(sources, label_maps)
    values = label_scans(sources, labels)
    if header_labels:
        values = _add_header_labels(sources, values)
    with _alone(out), _roomy(out):
        job = Job(out, recipe, orientation, uuid.uuid4().hex)
        job.staging.mkdir(exist_ok=True)
        try:
            outcomes = _stage(job, sources, way, progress)
            words = {"exclude_flagged": exclude_flagged, "unclear": unclear}
            return finish(job, sources, values, outcomes, **words)
        finally:
            with contextlib.suppress(OSError):  # gone, or of use to the next call
                job.staging.rmdir()


def _add_header_labels(sources: Sequence[Source], values: Sequence[dict]) -> list[dict]:
    known = read_header_labels(sources)
    return [
        {**{k: v for k, v in known.get(s.path, {}).items() if v is not None}, **row}
        for s, row in zip(sources, values, strict=True)
    ]


def _stage(
    job: Job, sources: Sequence[Source], way: Way, progress: bool
) -> list[Staged]:
    before = set(read_stored(job.out, job.call).places)
    for folder in (job.staging, job.aside):
        before |= {path.stem for path in folder.glob("*.record")}
    outcomes: list[Staged] = [Staged(None, False, "")] * len(sources)
    with _bar(len(sources), progress) as step:

        def note(position: int, outcome: Staged) -> None:
            # A twin of a scan of this call was not there before it.
            made = outcome.made or outcome.key not in before
            outcomes[position] = outcome._replace(made=made)
            step()

        stage_all(job, sources, way, note)
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


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Makes `out` and keeps a second call, in this process or another, out of it."""
    make_folder(out)
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
def _roomy(out: Path) -> Iterator[None]:
    """Says of a full disk where it is full, and that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputRefusedError(
            f"{out}: wanted room to write, got {error.strerror}; what is made is kept: "
            "make room and run it again"
        ) from None


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
