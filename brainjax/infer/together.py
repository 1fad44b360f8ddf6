"""Answers of runs that take several scans of a subject and session."""

import logging
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from brainjax import models
from brainjax.evaluate.features import Answers, join_sequences
from brainjax.records.sources import Source
from brainjax.train.restore import Run

log = logging.getLogger("brainjax")

Failures = list[tuple[str, str]]


def choose_scans(
    sources: Sequence[Source], sequences: Sequence[str]
) -> tuple[list[Source], Failures]:
    """Gives the scans that a run of named sequences takes, in their order.

    Of two scans of one sequence, subject and session it is the first by path. Scans of
    other sequences are left out; a warning counts both. Without names every scan is
    taken.

    Returns:
      The scans, and (path, reason) of those that no answer can come from: their subject
      has none of the sequences, or they do not say which they are of.
    """
    if not sequences:
        return list(sources), []
    wanted = ", ".join(sequences)
    best: dict[Hashable, Source] = {}
    failures: Failures = []
    for source in sources:
        if source.sequence is None:
            reason = f"wanted a scan of one of {wanted}, got one that does not say"
            failures.append((source.path, reason))
        elif source.sequence in sequences:
            place = (_who(source), source.sequence)
            best[place] = min(source, best.get(place, source), key=lambda s: s.path)
    chosen = set(best.values())
    answered = {_who(source) for source in chosen}
    rest = [s for s in sources if s.sequence is not None and s not in chosen]
    left = [source for source in rest if _who(source) in answered]
    failures += [
        (s.path, f"wanted a scan of one of {wanted}, got {s.sequence}")
        for s in rest
        if _who(s) not in answered
    ]
    if left:
        log.warning(
            "leaving out %d scans beside one %s of their session",
            *(len(left), " and one ".join(sequences)),
        )
    return [source for source in sources if source in chosen], failures


def answer_together(
    run: Run, sources: Sequence[Source], features: Float[np.ndarray, "n d"]
) -> tuple[list[Source], Answers, Failures]:
    """Answers from the features of each subject's and session's scans.

    A run that names its sequences places scans by their sequence, and answers from
    those that are there. One that does not (a converted one) averages the features of
    exactly as many scans as it has inputs.

    Returns:
      One source a subject and session, whose path and sequence name all its scans
      (joined by "+"); outputs and features of each; and (path, reason) of the scans
      that are too few or too many for a run without names.
    """
    together: dict[Hashable, list[int]] = {}
    for number, source in enumerate(sources):
        together.setdefault(_who(source), []).append(number)
    names = tuple(run.network.get("sequences") or ())
    failures: Failures = []
    if not names:
        failures = _miscounted(run.network["inputs"], sources, together)
    joint = [
        _join([sources[i] for i in numbers], names) for numbers in together.values()
    ]
    if not joint:
        nothing = np.zeros((0, 0), np.float32)
        return [], Answers(nothing, nothing), failures
    if names:
        placed, present = _place(sources, features, together, names)
        means, given = join_sequences(placed, present), (placed, present)
    else:
        means = np.stack([features[rows].mean(axis=0) for rows in together.values()])
        given = (means,)
    outputs, _ = models.run(
        run.graphdef,
        run.params,
        run.batch_stats,
        *given,
        train=False,
        method="answer",
    )
    return joint, Answers(np.asarray(outputs), means), failures


def _who(source: Source) -> tuple[str, str | None]:
    return source.subject or source.path, source.session


def _join(scans: list[Source], names: tuple[str, ...]) -> Source:
    """One source for all scans of a case, in the order of the run's sequences."""
    if names:
        scans = sorted(scans, key=lambda scan: names.index(str(scan.sequence)))
    who, session = _who(scans[0])
    paths = "+".join(scan.path for scan in scans)
    return Source(paths, who, session, "+".join(scan.sequence or "" for scan in scans))


def _miscounted(
    inputs: int, sources: Sequence[Source], together: dict[Hashable, list[int]]
) -> Failures:
    """Takes out the cases that have not as many scans as there are inputs."""
    failures: Failures = []
    for who, numbers in list(together.items()):
        if len(numbers) != inputs:
            del together[who]
            scans = [sources[number] for number in numbers]
            reason = f"wanted {inputs} scans of {_who(scans[0])[0]}, got {len(scans)}"
            failures.append(("+".join(scan.path for scan in scans), reason))
    return failures


def _place(
    sources: Sequence[Source],
    features: Float[np.ndarray, "n d"],
    together: dict[Hashable, list[int]],
    names: tuple[str, ...],
) -> tuple[Float[np.ndarray, "m s d"], Bool[np.ndarray, "m s"]]:
    """Features of every case by sequence, 0 where missing, and which are there."""
    shape = len(together), len(names)
    placed = np.zeros((*shape, features.shape[1]), features.dtype)
    present = np.zeros(shape, bool)
    for case, numbers in enumerate(together.values()):
        for number in numbers:
            place = names.index(str(sources[number].sequence))
            placed[case, place], present[case, place] = features[number], True
    return placed, present
