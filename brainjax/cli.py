"""`brainjax <verb>`: every verb is thin; the work is in the rooms."""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb and gives its exit code: 0 good, 2 input refused, 1 our failure."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
