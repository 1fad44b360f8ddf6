"""A mere histogram's answers, cross-validated, and how scores are put down."""

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
MIN_SUBJECTS = 20
"""Below this a cross-validated score says nothing and is null."""


def scores(chance: float, oracle: float | None, histogram: float | None) -> dict:
    """Gives rounded scores; `share`: how far from chance to oracle a histogram gets."""
    share = None
    if oracle is not None and histogram is not None and oracle != chance:
        share = (histogram - chance) / (oracle - chance)
    scores = {"chance": chance, "oracle": oracle, "histogram": histogram}
    scores["share"] = share
    return {k: None if v is None else round(v, 3) for k, v in scores.items()}


def auc_scores(positive: np.ndarray, oracle: np.ndarray, rows: np.ndarray) -> dict:
    """Gives the scores of a binary target [n]; null where a class is too small."""
    both = min(positive.sum(), (~positive).sum()) >= FOLDS
    if not both or len(positive) < MIN_SUBJECTS:
        return scores(0.5, None, None)
    guess = cross_validate_logistic(rows, positive, np.arange(len(rows)))[:, 1]
    reached = (float(roc_auc_score(positive, values)) for values in (oracle, guess))
    return scores(0.5, *reached)


def cross_validate_ridge(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Gives what a ridge that saw the other folds answers, [n]."""
    guess = np.zeros(len(targets))
    for train, test in GroupKFold(FOLDS).split(rows, groups=np.arange(len(rows))):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 19)))
        guess[test] = model.fit(rows[train], targets[train]).predict(rows[test])
    return guess


def cross_validate_logistic(
    rows: np.ndarray, targets: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Gives probabilities [n, classes]; folds are by group, classes sorted."""
    guess = np.zeros((len(targets), len(np.unique(targets))))
    for train, test in GroupKFold(FOLDS).split(rows, groups=groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        guess[test] = model.fit(rows[train], targets[train]).predict_proba(rows[test])
    return guess


def r2(targets: np.ndarray, guess: np.ndarray | None) -> float | None:
    """Gives the share of the variance explained; None without guess or variance."""
    spread = ((targets - targets.mean()) ** 2).sum()
    if guess is None or spread == 0:
        return None
    return float(1 - ((targets - guess) ** 2).sum() / spread)
