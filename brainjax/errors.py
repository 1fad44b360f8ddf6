"""What brainjax says when an input, a table or a setting cannot be used."""


class InputRefusedError(ValueError):
    """An input was refused: one line that names it, what was wanted, what came.

    The command line prints the message and exits with code 2. Anything else that
    escapes is a failure of brainjax itself and exits with code 1.
    """


class MissingExtraError(InputRefusedError):
    """An optional dependency is needed and absent; the message names the extra."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"{package} is not installed; it comes with: "
            f"pip install 'brainjax[{extra}]'"
        )
