"""What a batch had to leave out, for people, and the exit code that says so."""

import sys
from collections.abc import Sequence

from brainjax.cli.codes import GOOD, REFUSED

Failures = Sequence[tuple[str, str]]
"""Path and reason of every scan that was refused."""


def listed(failures: Failures, what: str = "scan") -> int:
    """Prints what a batch had to leave out; refused if anything was."""
    if failures:
        many = (
            f"1 {what} was" if len(failures) == 1 else f"{len(failures)} {what}s were"
        )
        print(f"{many} refused:", file=sys.stderr)
    for path, reason in failures:
        line = reason if reason.startswith(path) else f"{path}: {reason}"
        print(f"  {line}", file=sys.stderr)
    return REFUSED if failures else GOOD
