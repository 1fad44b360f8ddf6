"""What a conversion did, for people: every key, and one line that sums it up."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from brainjax.interop.convert import Conversion
from brainjax.interop.origins import ORIGINS
from brainjax.models.pure import count_parameters

WIDE = 160
"""Columns of a table that goes to a file: no key is cut."""


def show_conversion(conversion: Conversion) -> None:
    """Prints a table of every key: mapped (and how), ignored (and why), missing."""
    table = Table(title=f"{conversion.run.folder}: every key of the file")
    for heading in ("key", "shape", "status", "note"):
        table.add_column(heading, overflow="fold")
    for row in conversion.rows:
        table.add_row(row.key, "x".join(map(str, row.shape)), row.status, row.note)
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
    print(summarise(conversion))


def summarise(conversion: Conversion) -> str:
    """Gives one line: origin, network, keys by status, recipe."""
    run, counts = conversion.run, Counter(row.status for row in conversion.rows)
    origin = ORIGINS.get(conversion.origin)
    keys = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    encoder = run.network["encoder"]
    return (
        f"{run.folder}: {origin.name if origin else 'written by brainjax'}; "
        f"{encoder.get('name', 'vit')} of "
        f"{count_parameters(run.params):,} parameters, kind {run.kind}; "
        f"{len(conversion.rows)} keys: {keys}; recipe {run.recipe.name} "
        f"{run.recipe.hash}; checkpoint {run.checkpoint}"
    )
