"""What a preparation would do, told before it does it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brainjax.records.prepare import check_recipe
from brainjax.records.runners import Way, check_way
from brainjax.records.sessions import plan_sessions
from brainjax.records.sources import Source
from brainjax.volume.aligned_recipe import check_installed
from brainjax.volume.recipe import AlignedRecipe, AnyRecipe

WIDE = 1000
"""Characters a line, where nobody looks at a terminal."""

MOST_ROWS = 200
"""A longer list is cut; the counts under it are of all."""

_GIB = 2**30
_NEED = {True: 2.0 * _GIB, False: 1.0 * _GIB}
"""Bytes of a worker whose recipe looks for the brain, and of one whose does not."""


def memory_need(recipe: AnyRecipe) -> int:
    """Gives the bytes that a worker needs for a scan of usual size, 256 cubed."""
    return int(_NEED[isinstance(recipe, AlignedRecipe)])


def show_plan(
    sources: Sequence[Source], recipe: AnyRecipe, way: Way, out: Path
) -> None:
    """Prints what was found and what would be done with it; writes nothing.

    Raises:
      InputRefusedError: `out` holds a data set of another recipe.
    """
    check_recipe(out, recipe)
    check_way(way)
    if isinstance(recipe, AlignedRecipe):
        check_installed(recipe)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)  # a path stays on its line
    table = Table("scan", "subject", "session", "sequence", "through", box=None)
    through = _references(sources, recipe)
    for source, reference in list(zip(sources, through, strict=True))[:MOST_ROWS]:
        known = (source.subject, source.session, source.sequence)
        words = [source.path, *(word or "?" for word in known), reference]
        table.add_row(*map(escape, words))
    console.print(table)
    if len(sources) > MOST_ROWS:
        console.print(f"... and {len(sources) - MOST_ROWS} more")
    console.print(escape(_count(sources)))
    steps = recipe.steps if isinstance(recipe, AlignedRecipe) else ()
    console.print(escape(f"recipe {recipe.describe()} {recipe.hash}"))
    if steps:
        console.print(f"steps: {', '.join(steps)}")
    console.print(escape(f"into {out}, {_where(way)}; nothing was written"))


def _references(sources: Sequence[Source], recipe: AnyRecipe) -> list[str]:
    """Gives the sequence that each scan goes through to the template, if any."""
    found = [""] * len(sources)
    for first, *others in plan_sessions(sources, recipe):
        for position in others:
            found[position] = sources[first].sequence or sources[first].path
    return found


def _count(sources: Sequence[Source]) -> str:
    subjects = {s.subject or s.path for s in sources}
    sessions = {(s.subject or s.path, s.session) for s in sources}
    sequences = Counter(s.sequence or "unknown" for s in sources)
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(sequences.items()))
    labelled = sum(source.label_map is not None for source in sources)
    return (
        f"{len(sources)} scans of {len(subjects)} subjects in {len(sessions)} "
        f"sessions: {kinds}" + (f"; {labelled} with a label map" if labelled else "")
    )


def _where(way: Way) -> str:
    if way.scheduler or way.cluster:
        return f"through Dask at {way.scheduler or way.cluster}"
    return f"{way.workers} at a time on this machine"
