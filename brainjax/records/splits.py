"""Parts and folds that no subject shares, whatever the order of the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from brainjax.errors import InputRefusedError

QUANTILES = 5
"""Bins of a numeric label that parts are balanced by."""


def split_by_subject(
    subjects: Sequence[str],
    *,
    seed: int,
    fractions: Mapping[str, float],
    stratify: Sequence[Any] | None = None,
) -> dict[str, Int64[np.ndarray, " k"]]:
    """Gives the scans of every part, sorted; each subject is in exactly one part.

    Args:
      subjects: subject of every scan.
      seed: of the draw; the order of the rows plays no part.
      fractions: share of subjects of each part, summing to 1; a share above 0 gets at
        least one subject.
      stratify: a label of every scan (None where unknown) that parts are balanced by:
        a subject counts once, with its smallest; numbers count in five quantile bins.

    Raises:
      InputRefusedError: shares outside 0..1 or not summing to 1, too few subjects.
    """
    shares = np.array(list(fractions.values()), dtype=float)
    if not (len(shares) and (shares >= 0).all() and np.isclose(shares.sum(), 1)):
        raise InputRefusedError(
            f"split: wanted shares of 0..1 that sum to 1, got {dict(fractions)}"
        )
    drawn, of_scan = _draw(subjects, seed, stratify)
    wanted = int((shares > 0).sum())
    if len(drawn) < wanted:
        raise InputRefusedError(
            f"split: wanted at least {wanted} subjects for {dict(fractions)}, got "
            f"{len(drawn)}"
        )
    counts = _round(shares, len(drawn))
    part = np.empty(len(drawn), dtype=np.int64)
    part[drawn] = _interleave(counts)
    return {
        name: np.flatnonzero(part[of_scan] == number)
        for number, name in enumerate(fractions)
    }


def folds_by_subject(
    subjects: Sequence[str],
    *,
    seed: int,
    folds: int,
    stratify: Sequence[Any] | None = None,
) -> Int64[np.ndarray, " n"]:
    """Gives the fold (0 to folds - 1) of every scan; a subject is in one fold.

    Fold sizes in subjects differ by one at the most. `stratify` as in
    `split_by_subject`. Raises InputRefusedError with fewer subjects than folds.
    """
    drawn, of_scan = _draw(subjects, seed, stratify)
    if folds < 2 or len(drawn) < folds:
        raise InputRefusedError(
            f"folds: wanted 2 folds or more and a subject for each, got {folds} folds "
            f"and {len(drawn)} subjects"
        )
    fold = np.empty(len(drawn), dtype=np.int64)
    fold[drawn] = np.arange(len(drawn)) % folds
    return fold[of_scan]


def _draw(
    subjects: Sequence[str], seed: int, stratify: Sequence[Any] | None
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " n"]]:
    """Gives subjects in drawn order, one stratum after another, and each scan's."""
    names, of_scan = np.unique([str(s) for s in subjects], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    if stratify is not None:
        if len(stratify) != len(of_scan):
            raise InputRefusedError(
                f"split: wanted a label or None for each of {len(of_scan)} scans, got "
                f"{len(stratify)}"
            )
        strata = _strata(_first_known(stratify, of_scan, len(names)))
        order = order[np.argsort(strata[order], kind="stable")]
    return order, of_scan


def _first_known(
    values: Sequence[Any], of_scan: Int[np.ndarray, " n"], count: int
) -> list[Any]:
    """Gives one value per subject: its smallest known one, so that order is nothing."""
    known: list[list[Any]] = [[] for _ in range(count)]
    for subject, value in zip(of_scan, values, strict=True):
        if value is not None and value == value:
            known[subject].append(value)
    numeric = _numeric([v for values in known for v in values])
    return [min(v, key=None if numeric else str) if v else None for v in known]


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float | np.number) for v in values)


def _strata(values: Sequence[Any]) -> Int[np.ndarray, " s"]:
    """Gives a stratum number per subject; the unknown are one stratum, the last."""
    known = [v for v in values if v is not None]
    classes: list[Any] = sorted(set(known), key=None if _numeric(known) else str)
    if _numeric(known) and len(classes) > QUANTILES:
        inner = np.linspace(0, 1, QUANTILES + 1)[1:-1]
        edges = np.quantile(np.asarray(known, dtype=float), inner)
        number = {v: int(np.searchsorted(edges, v)) for v in classes}
    else:
        number = {v: i for i, v in enumerate(classes)}
    last = len(classes)
    return np.array([last if v is None else number[v] for v in values], dtype=int)


def _round(shares: np.ndarray, total: int) -> Int[np.ndarray, " p"]:
    """Rounds shares of a total so that they add up, none of the wanted ones empty."""
    exact = shares * total
    counts = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - counts), kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    for empty in np.flatnonzero((shares > 0) & (counts == 0)):
        counts[np.argmax(counts)] -= 1
        counts[empty] = 1
    return counts


def _interleave(counts: Int[np.ndarray, " p"]) -> Int[np.ndarray, " s"]:
    """Spreads every part evenly over the drawn order: the strata share it fairly."""
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in counts if n])
    parts = np.repeat(np.arange(len(counts)), counts)
    return parts[np.argsort(places, kind="stable")]
