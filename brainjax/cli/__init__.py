"""`brainjax <verb>`: every verb is thin; the work is in the rooms.

Exit codes: 0 all good, 2 an input was refused, 1 brainjax itself failed.
"""

import argparse
import logging
import re
import sys
import traceback
from collections.abc import Sequence

from brainjax.cli.codes import OURS, REFUSED
from brainjax.cli.parser import make_parser
from brainjax.cli.processes import Peers, join
from brainjax.errors import InputRefusedError

__all__ = ["main", "make_parser"]

_REPEATED = re.compile(r"([A-Z][^:]{3,80}: )\1+")
"""How XLA tells of a failure: once for every call it passed on its way up."""


WITH_CONFIG = ("pretrain", "finetune", "study")
"""Verbs whose keys can be set on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and gives its exit code."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if word.startswith("--config.")]
    strangers = [word for word in rest if word not in overrides]
    if strangers or (overrides and options.verb not in WITH_CONFIG):
        parser.error(f"unrecognized arguments: {' '.join(strangers or overrides)}")
    options.overrides = overrides
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("brainjax").setLevel(logging.INFO)
    peers = None
    try:
        peers = join(options)
        return options.action(options)
    except InputRefusedError as error:
        return _say(error, options, REFUSED, peers)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        if peers:
            peers.leave(130, "interrupted")
        return 130
    except Exception as error:  # the last line of defence: one line, exit code 1
        return _say(error, options, OURS, peers)
    finally:
        if peers:
            peers.close()


def _say(
    error: Exception, options: argparse.Namespace, code: int, peers: Peers | None
) -> int:
    if options.traceback:
        traceback.print_exc()
    line = _in_a_line(error, options, code)
    who = ""
    if peers:
        who, line = f"{peers.me}: ", peers.explain(error) or line
    print(f"brainjax {options.verb}: {who}{line}", file=sys.stderr)
    if peers:
        peers.leave(code, line)
    return code


def _in_a_line(error: Exception, options: argparse.Namespace, code: int) -> str:
    line = _REPEATED.sub(r"\1", " ".join(str(error).split()))
    if code == REFUSED:
        return line
    hint = "" if options.traceback else " (--traceback says where)"
    return f"{type(error).__name__}: {line}{hint}"
