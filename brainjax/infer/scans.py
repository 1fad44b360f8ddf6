"""From raw scans to canonical volumes, many at a time; a bad one fails alone."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.infer.sessions import Sessions
from brainjax.records.sources import Source, find_sources
from brainjax.train.restore import Run
from brainjax.volume.canonical import Canonical, Codes
from brainjax.volume.recipe import AnyRecipe


class Prepared(NamedTuple):
    """One scan: its codes, or the reason why there are none; and the whole volume."""

    source: Source
    codes: Codes | None
    reason: str
    volume: Canonical | None = None


def list_scans(words: Sequence[str]) -> list[Source]:
    """Gives the scans of files, folders and tables, in the order given, each once.

    Raises:
      InputRefusedError: nothing is there, or a table is malformed.
    """
    return find_sources(words, by_path=False)


def prepare_scans(
    sources: Sequence[Source],
    recipe: AnyRecipe,
    *,
    orientation: str | None = None,
    workers: int = 1,
) -> Iterator[Prepared]:
    """Prepares scans, `workers` at a time, as `brainjax prepare` would.

    In order, except that the scans of a session follow its first: so only a few volumes
    are held at once, however many scans there are and however they are listed.

    Raises:
      InputRefusedError: no worker.
    """
    if workers < 1:
        raise InputRefusedError(f"workers: wanted at least 1, got {workers}")

    sources = list(sources)
    sessions = Sessions(sources, recipe, orientation)

    def prepare(position: int) -> Prepared:
        source = sources[position]
        try:
            volume = sessions.prepare(position)
        except InputRefusedError as error:
            return Prepared(source, None, str(error))
        except Exception as error:  # one odd file must not lose the others' answers
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Prepared(source, None, f"{source.path}: {reason}")
        return Prepared(source, volume.codes, "", volume)

    waiting = iter(sessions.order)
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(prepare, p) for p in islice(waiting, 2 * workers)]
        while ahead:
            result = ahead.pop(0).result()
            ahead += [pool.submit(prepare, p) for p in islice(waiting, 1)]
            yield result


def check_recipe(run: Run, name: str | None) -> None:
    """Refuses a recipe that was asked for by name but is not the run's.

    Raises:
      InputRefusedError: names both recipes.
    """
    if name is not None and name not in (run.recipe.name, run.recipe.hash):
        raise InputRefusedError(
            f"--recipe {name}: {run.folder} learnt from recipe {run.recipe.name} "
            f"{run.recipe.hash}, and answers through no other"
        )


def check_out(out: Path | None) -> None:
    """Refuses an output that could not be written, before the work is done.

    Raises:
      InputRefusedError: neither .csv nor .parquet, a folder, or in a folder that is
        missing or may not be written.
    """
    if out is None:
        return
    if out.suffix not in (".csv", ".parquet"):
        raise InputRefusedError(f"{out}: wanted .csv or .parquet, got {out.suffix!r}")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")
    if not out.absolute().parent.is_dir():
        raise InputRefusedError(f"{out}: wanted an existing folder, got none")
    if out.is_dir():
        raise InputRefusedError(f"{out}: wanted a file, got a folder")
    if not os.access(out.absolute().parent, os.W_OK):
        raise InputRefusedError(f"{out}: wanted a folder to write in, got no right to")
