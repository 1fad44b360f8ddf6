"""What a conversion did, for people: every key, and one line that sums it up."""

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from brainjax.interop.convert import Conversion
from brainjax.interop.origins import ORIGINS
from brainjax.models.pure import count_parameters
from brainjax.train.restore import Run

SAID = ("patch", "heads", "pool", "stem_stride", "dilated")
"""Keywords of an encoder that decide its answers and that a file may not tell."""

WIDE = 160
"""Columns of a table that goes to a file: no key is cut."""


def show_conversion(conversion: Conversion) -> None:
    """Prints a table of every key: mapped (and how), ignored (and why), missing."""
    table = Table(title=Text(f"{conversion.run.folder}: every key of the file"))
    for heading in ("key", "shape", "status", "note"):
        table.add_column(heading, overflow="fold")
    for row in conversion.rows:
        words = (row.key, "x".join(map(str, row.shape)), row.status, row.note)
        table.add_row(*map(Text, words))  # a file's words are no markup
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
    print(summarise(conversion))


def summarise(conversion: Conversion) -> str:
    """Gives one line: origin, network, keys by status, recipe."""
    run, counts = conversion.run, Counter(row.status for row in conversion.rows)
    keys = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    return (
        f"{run.folder}: {_origin(conversion.origin)}; {_encoder(run)}, "
        f"{count_parameters(run.params):,} parameters, kind {run.kind}; "
        f"{len(conversion.rows)} keys: {keys}; recipe {run.recipe.describe()} "
        f"{run.recipe.hash}; checkpoint {run.checkpoint}"
    )


def _origin(name: str) -> str:
    if name not in ORIGINS:
        return "written by brainjax"
    return ORIGINS[name].name + ("" if ORIGINS[name].checked else " (unverified)")


def _encoder(run: Run) -> str:
    """Says what was assumed where a file leaves it open: size, patch, heads, stride."""
    keywords = run.network["encoder"]
    words = [keywords.get("name", "vit"), "x".join(map(str, run.view))]
    words += [f"{k} {keywords[k]}" for k in SAID if k in keywords]
    return " ".join(words)
