"""Which scans belong together, and through which of them the others go."""

from collections.abc import Sequence
from pathlib import Path

from brainjax.records.sources import Source
from brainjax.volume.recipe import AlignedRecipe, AnyRecipe

PREFERRED = ("T1w", "T1CE", "T2w", "FLAIR")
"""Sequences by how well they show what a template shows; others come last."""


def plan_sessions(sources: Sequence[Source], recipe: AnyRecipe) -> list[list[int]]:
    """Gives the positions of the scans of each session, the best reference first.

    Scans of a subject and session belong together where the recipe takes them so; where
    no session is known, those of a folder. Elsewhere, and where the subject is unknown,
    each stands for itself.
    """
    together: dict[tuple, list[int]] = {}
    by_session = isinstance(recipe, AlignedRecipe) and recipe.session
    for position, source in enumerate(sources):
        alone = not by_session or source.subject is None
        key = (position,) if alone else _session(source)
        together.setdefault(key, []).append(position)
    return [
        sorted(group, key=lambda p: _rank(sources[p])) for group in together.values()
    ]


def _session(source: Source) -> tuple:
    """What the scans of one session share; equal names in two folders are not one."""
    if source.session is not None:
        return source.subject, source.session
    return source.subject, None, str(Path(source.path).parent)


def _rank(source: Source) -> tuple:
    known = source.sequence in PREFERRED
    place = PREFERRED.index(source.sequence) if known and source.sequence else 99
    return place, source.path


class Waves:
    """Hands out scans so that each comes after the reference of its session.

    The first wave holds the best reference of every session; where that one was
    refused, the next best takes its place.
    """

    def __init__(self, groups: Sequence[Sequence[int]]):
        self._waiting = [list(group) for group in groups]
        self._reference: list[int | None] = [None] * len(self._waiting)

    def next(self, good: set[int]) -> list[tuple[int, int | None]]:
        """Gives (scan, its reference) of the next wave; none when all are done.

        `good`: the scans of earlier waves that were not refused.
        """
        wave: list[tuple[int, int | None]] = []
        for number, waiting in enumerate(self._waiting):
            reference = self._reference[number]
            if reference is not None and reference not in good:
                reference = None
            if reference is not None:
                wave += [(position, reference) for position in waiting]
                waiting.clear()
            elif waiting:
                first = waiting.pop(0)
                self._reference[number] = first
                wave.append((first, None))
        return wave
