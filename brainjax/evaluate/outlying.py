"""How far a scan's features lie from those of the training scans.

The score is a Mahalanobis distance under a Ledoit-Wolf covariance. It was chosen before
a distance to the nearest training scans because it is defined for ten scans of 768
features, because leaving a subject out costs one small solve, and because what is saved
is a mean and a covariance, never the features of a subject. It takes the training scans
for one cloud: of a run on several sequences, a scan between two of them looks familiar.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.evaluate.metrics import Subjects, number_subjects

PERCENTILE = 99
"""Of the training scans, each left out, that sets the threshold."""

FEW = 50
"""Subjects up to which everything is fitted again without each of them."""

FLAT = 1e-6
"""A feature that varies less, in parts of the one that varies most, is constant."""


class Reference(NamedTuple):
    """The training scans' features, as one cloud.

    Attributes:
      mean, scale: of every feature.
      directions: principal ones of the scaled features, in columns.
      variances: along them, after shrinkage; rest: along any other direction.
      threshold: on the score; NaN with fewer than three training subjects.
    """

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d r"]
    variances: Float[np.ndarray, " r"]
    rest: float
    threshold: float


def fit_reference(
    features: Float[np.ndarray, "n d"], subjects: Subjects | None = None
) -> Reference | None:
    """Learns what training scans look like; None where features are equal, not finite.

    The threshold is the 99th percentile of the scores of the training scans, each
    against a cloud from which its subject is left out. With few subjects everything is
    fitted again; with many, scale and shrinkage are kept, and it is one small solve a
    subject. Of n scans 1 in n + 1 or more of the familiar are over it.

    Args:
      features: of the training scans.
      subjects: of them; every scan is its own if None.
    """
    features = np.asarray(features, np.float64)
    n, width = features.shape
    if n < 2 or not np.isfinite(features).all() or not np.ptp(features, axis=0).any():
        return None
    groups = number_subjects(range(n) if subjects is None else subjects)
    cloud = _fit(features)
    scores = np.zeros(0)
    if 3 <= groups.max() + 1 <= FEW:
        scores = _fit_without(features, groups)
    elif groups.max() + 1 > FEW:
        along = (features - cloud.mean) / cloud.scale @ cloud.directions
        squared = _leave_out(along, cloud.squares, cloud.shrinkage, cloud.rest, groups)
        scores = np.sqrt(squared / width)
    threshold = np.nan
    if len(scores):
        threshold = float(np.percentile(scores, PERCENTILE, method="higher"))
    return cloud.reference(threshold)


class _Cloud(NamedTuple):
    """What `Reference` is made of; squares are the singular values, squared."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d r"]
    squares: Float[np.ndarray, " r"]
    shrinkage: float
    rest: float
    count: int

    def reference(self, threshold: float) -> Reference:
        """Gives it with its threshold."""
        variances = (1 - self.shrinkage) * self.squares / self.count + self.rest
        parts = self.mean, self.scale, self.directions, variances
        return Reference(*parts, self.rest, threshold)


def _fit(features: Float[np.ndarray, "n d"]) -> _Cloud:
    from sklearn.covariance import ledoit_wolf_shrinkage

    n, width = features.shape
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > FLAT * spread.max(), spread, spread.max())
    scaled = (features - mean) / scale
    shrinkage = float(ledoit_wolf_shrinkage(scaled, assume_centered=True))
    # Left at 0 by Ledoit and Wolf, a direction never seen would be infinitely far.
    shrinkage = max(shrinkage, FLAT)
    rest = shrinkage * float(np.square(scaled).sum()) / n / width
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    kept = singular > 1e-10 * singular[0]
    squares = np.square(singular[kept])
    return _Cloud(mean, scale, directions[kept].T, squares, shrinkage, rest, n)


def _fit_without(
    features: Float[np.ndarray, "n d"], groups: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    """Scores of every scan against the others, fitted again without its subject."""
    found = []
    for group in np.unique(groups):
        left, others = features[groups == group], features[groups != group]
        if len(others) > 1 and np.ptp(others, axis=0).any():
            found.append(outlying_scores(_fit(others).reference(np.nan), left))
    return np.concatenate(found) if found else np.zeros(0)


def outlying_scores(
    reference: Reference, features: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """Gives distances from the training scans, per root feature: about 1 is usual.

    Features that are not finite are infinitely far.
    """
    features = np.asarray(features, np.float64)
    finite = np.isfinite(features).all(1)
    scaled = (features[finite] - reference.mean) / reference.scale
    along = scaled @ reference.directions
    outside = np.square(scaled).sum(1) - np.square(along).sum(1)
    squared = np.square(along) @ (1 / reference.variances)
    squared += np.maximum(outside, 0) / reference.rest
    scores = np.full(len(features), np.inf)
    scores[finite] = np.sqrt(squared / features.shape[1])
    return scores


def _leave_out(
    along: Float[np.ndarray, "n r"],
    squares: Float[np.ndarray, " r"],
    shrinkage: float,
    rest: float,
    groups: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Squared distance of every scan from the cloud of the other subjects.

    What a subject adds to the covariance is a matrix of low rank, which Woodbury's
    identity takes away again.
    """
    n = len(along)
    squared = np.zeros(n)
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(groups))[:-1]):
        others = n - len(rows)
        share = (1 - shrinkage) / others
        own = along[rows]
        shift = own.sum(0) / others  # from the mean of all to that of the others
        added = np.vstack([own, shift * np.sqrt(others)])
        gram = (added / (share * squares + rest)) @ added.T
        steps = np.eye(len(rows), len(added))
        steps[:, -1] = 1 / np.sqrt(others)
        inner = gram @ np.linalg.inv(np.eye(len(added)) - share * gram)
        squared[rows] = np.einsum("ij,jk,ik->i", steps, inner, steps)
    return np.maximum(squared, 0)
