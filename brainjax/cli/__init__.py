"""`brainjax <verb>`: every verb is thin; the work is in the rooms.

Exit codes: 0 all good, 2 an input was refused, 1 brainjax itself failed.
"""

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Sequence

from brainjax.cli.parser import make_parser
from brainjax.cli.verbs import OURS, REFUSED
from brainjax.errors import InputRefusedError

__all__ = ["main", "make_parser"]

_REPEATED = re.compile(r"([A-Z][^:]{3,80}: )\1+")
"""How XLA tells of a failure: once for every call it passed on its way up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and gives its exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if word.startswith("--config.")]
    strangers = [word for word in rest if word not in overrides]
    if strangers or (overrides and options.verb not in ("pretrain", "finetune")):
        parser.error(f"unrecognized arguments: {' '.join(strangers or overrides)}")
    options.overrides = overrides
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("brainjax").setLevel(logging.INFO)
    try:
        return options.action(options)
    except InputRefusedError as error:
        return _say(error, options, REFUSED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # the last line of defence: one line, exit code 1
        return _say(error, options, OURS)


def _say(error: Exception, options: argparse.Namespace, code: int) -> int:
    if options.traceback:
        traceback.print_exc()
    kind = "" if code == REFUSED else f"{type(error).__name__}: "
    line = _REPEATED.sub(r"\1", " ".join(str(error).split()))
    hint = "" if options.traceback or code == REFUSED else " (--traceback says where)"
    print(f"brainjax {options.verb}: {kind}{line}{hint}", file=sys.stderr)
    return code
