"""Names of strengths that a config gives, and the refusal of those there are not."""

import difflib
from collections.abc import Iterable, Sequence

from brainjax.errors import InputRefusedError


def refuse_unknown_strengths(
    group: str, given: Iterable[str], known: Sequence[str], *, of: str = ""
) -> None:
    """Refuses the first name that is not known, with the near miss.

    group: of the config; of: what the strengths are of, where there are others.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]
            raise InputRefusedError(
                f"{group}.{name}: there is no such strength{of}; did you mean {near}?"
            )
