"""A parser that refuses words in one line, and how it reads some of them."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Refuses words in one line, as every other refusal is."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits with code 2."""
        self.exit(2, f"{self.prog}: {message} (--help lists what is known)\n")


def sizes(text: str) -> tuple[int, ...]:
    """Reads "96" or "96,112,96"."""
    return tuple(int(word) for word in text.strip("()").split(",")) * (
        1 if "," in text else 3
    )


def seconds(text: str) -> float | None:
    """Reads a time limit; "0" and "none" are none."""
    return None if text == "none" or float(text) == 0 else float(text)
