"""Split-conformal prediction: intervals and sets that hold the truth as often as said.

The promise is over new subjects like those of validation, not for any one of them, nor
for another scanner. Validation also chose the best step, which makes it slightly
generous. Source: Vovk et al. 2005; with several scans a subject, Lee et al. 2023
(every subject counts once).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from brainjax.evaluate.metrics import Subjects, number_subjects


def conformal_quantile(
    scores: Float[np.ndarray, " n"],
    subjects: Subjects | None = None,
    *,
    coverage: float = 0.9,
) -> float:
    """Gives the score that a new scan stays under with probability `coverage`.

    NaN with fewer than ceil(1 / (1 - coverage)) - 1 subjects: 9 for 90 %, 19 for 95 %.

    Args:
      scores: of the validation scans; the more, the worse the answer.
      subjects: of them; every scan is its own if None.
      coverage: wanted, between 0 and 1.
    """
    scores = np.asarray(scores, np.float64)
    if not len(scores):
        return np.nan
    groups = number_subjects(range(len(scores)) if subjects is None else subjects)
    counts = np.bincount(groups)
    # One share a subject, and one for the subject that is to come.
    shares = 1 / counts[groups] / (len(counts) + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(shares[order]) >= coverage - 1e-9
    return float(scores[order[np.argmax(reached)]]) if reached.any() else np.nan


def class_scores(
    probabilities: Float[np.ndarray, "n k"], codes: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Gives 1 - the true class's probability, which is 0 of a class never seen (-1)."""
    found = 1 - probabilities[np.arange(len(codes)), codes]
    return np.where(codes < 0, 1.0, found)


def class_sets(
    probabilities: Float[np.ndarray, "n k"], quantile: float
) -> Bool[np.ndarray, "n k"]:
    """Gives the classes that are probable enough; the most probable one always is."""
    probabilities = np.asarray(probabilities, np.float64)
    inside = 1 - probabilities <= quantile
    inside[np.arange(len(inside)), probabilities.argmax(1)] = True
    return inside
