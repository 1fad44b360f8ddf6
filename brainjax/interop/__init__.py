"""Other people's checkpoints in, and ours out, without their frameworks."""

from brainjax.interop.convert import Conversion, convert, read_checkpoint
from brainjax.interop.export import export
from brainjax.interop.show import show_conversion, summarise
from brainjax.interop.statement import Statement, make_statement

__all__ = [
    "Conversion",
    "Statement",
    "convert",
    "export",
    "make_statement",
    "read_checkpoint",
    "show_conversion",
    "summarise",
]
