"""Subjects by quartile of their risk: curves, the log-rank test, hazard ratios.

One row a subject: the mean risk of its scans, and the follow-up of the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from brainjax.errors import InputRefusedError
from brainjax.evaluate.hazards import (
    LogRank,
    Ratio,
    hazard_ratio,
    kaplan_meier,
    log_rank,
)
from brainjax.evaluate.metrics import Subjects, number_subjects
from brainjax.tasks.labels import is_number, refuse_mixed

MOST_WORDS = 10
"""Different words that a covariate may have."""


class Followed(NamedTuple):
    """Subjects, a row each.

    Attributes:
      times, events, risks: of the subject.
      first: the scan whose follow-up it is.
    """

    times: Float[np.ndarray, " n"]
    events: Bool[np.ndarray, " n"]
    risks: Float[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]


def one_a_subject(times, events, risks, subjects: Subjects) -> Followed:
    """Gives every subject one row."""
    groups = number_subjects(subjects)
    _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    means = np.bincount(groups, np.asarray(risks, np.float64)) / counts
    return Followed(
        np.asarray(times, np.float64)[first],
        np.asarray(events, bool)[first],
        means,
        first,
    )


def quartiles(risks: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Gives 1 (lowest) to 4 (highest); equal risks are of one quartile, the lower."""
    if not len(risks):
        return np.zeros(0, np.int64)
    cuts = np.quantile(risks, [0.25, 0.5, 0.75])
    return np.searchsorted(cuts, risks).astype(np.int64) + 1


def top_against_bottom(
    subjects: Followed, covariates: Float[np.ndarray, "n p"] | None = None
) -> Ratio:
    """Gives the hazard of the highest quartile in parts of the lowest one's.

    Adjusted for covariates if given; subjects with one that is not finite are left out.
    """
    found = quartiles(subjects.risks)
    kept = (found == 1) | (found == 4)
    if covariates is not None:
        kept &= np.isfinite(covariates).all(axis=1)
        covariates = covariates[kept]
        # What is the same for all who are left adjusts for nothing.
        covariates = (
            covariates[:, np.ptp(covariates, axis=0) > 0] if kept.any() else None
        )
    times, events = subjects.times[kept], subjects.events[kept]
    return hazard_ratio(found[kept] == 4, times, events, covariates)


def covariate_columns(columns: Mapping[str, Sequence[Any]]) -> Float[np.ndarray, "n p"]:
    """Makes numbers of covariates: words become 0 and 1, one column less than words.

    NaN where a value is unknown.

    Raises:
      InputRefusedError: numbers among words, or more than 10 different words.
    """
    made = []
    for name, values in columns.items():
        known = [value for value in values if value is not None]
        refuse_mixed(known, name)
        if all(is_number(value) for value in known):
            made.append([np.nan if v is None else float(v) for v in values])
            continue
        words = sorted({str(value) for value in known})
        if len(words) > MOST_WORDS:
            raise InputRefusedError(
                f"covariate {name!r}: wanted numbers, or {MOST_WORDS} different words "
                f"at most, got {len(words)}"
            )
        for word in words[1:]:
            made.append(
                [np.nan if v is None else float(str(v) == word) for v in values]
            )
    count = len(next(iter(columns.values()), []))
    return np.array(made, np.float64).reshape(len(made), count).T


def survival_tables(
    subjects: Followed, covariates: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, Any]:
    """Gives curves by risk quartile, the log-rank test and hazard ratios, for JSON.

    Args:
      subjects: of the test set.
      covariates: a column each, of the same subjects, that the ratio is adjusted for.

    Raises:
      InputRefusedError: as of `covariate_columns`.
    """
    groups = quartiles(subjects.risks)
    test: LogRank = log_rank(subjects.times, subjects.events, groups)
    found: dict[str, Any] = {
        "risk_quartiles": [
            _quartile(subjects, groups == number, int(number))
            for number in np.unique(groups)
        ],
        "log_rank": test._asdict(),
        "hazard_ratio": top_against_bottom(subjects)._asdict(),
    }
    if covariates:
        ratio = top_against_bottom(subjects, covariate_columns(covariates))
        found["hazard_ratio_adjusted"] = {
            **ratio._asdict(),
            "covariates": list(covariates),
        }
    return found


def _quartile(
    subjects: Followed, rows: Bool[np.ndarray, " n"], number: int
) -> dict[str, Any]:
    curve = kaplan_meier(subjects.times[rows], subjects.events[rows])
    risks = subjects.risks[rows]
    return {
        "quartile": number,
        "risk_from": float(risks.min()),
        "risk_to": float(risks.max()),
        "subjects": int(rows.sum()),
        "events": int(subjects.events[rows].sum()),
        "curve": {name: part.tolist() for name, part in curve._asdict().items()},
    }
