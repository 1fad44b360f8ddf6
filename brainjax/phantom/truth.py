"""How well each target can be read: from the latents, and from a mere histogram."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainjax.phantom.latents import Subject, oracle_age, oracle_male

BINS = 32
FOLDS = 5
MIN_SUBJECTS = 20
"""Below this a cross-validated score says nothing and is null."""


class Features(NamedTuple):
    """What the baseline sees of one scan: 32 shares and the volume in ml."""

    subject: int
    sequence: str
    values: tuple[float, ...]


def histogram_features(
    image: Float[np.ndarray, "x y z"], mask: np.ndarray, spacing: float
) -> tuple[float, ...]:
    """Gives 32 histogram shares (0.5th to 99.5th percentile) and volume in ml."""
    values = image[mask].astype(np.float32)
    low, high = np.percentile(values, [0.5, 99.5])
    scaled = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    counts = np.bincount((scaled * (BINS - 1e-3)).astype(int), minlength=BINS)
    shares = counts / values.size
    return (*(float(s) for s in shares), values.size * spacing**3 / 1000)


def measure_truth(subjects: list[Subject], scans: list[Features]) -> dict:
    """Gives per target: chance, oracle and histogram score, and its reading rule."""
    order = sorted({scan.sequence for scan in scans})
    table = {(scan.subject, scan.sequence): scan.values for scan in scans}
    rows = np.array(
        [np.concatenate([table[s.number, q] for q in order]) for s in subjects]
    )
    targets = {"age": _age(subjects, rows), "sex": _sex(subjects, rows)}
    if len(order) > 1:
        targets["sequence"] = _sequence(scans)
    return targets


def _age(subjects: list[Subject], rows: np.ndarray) -> dict:
    ages = np.array([s.latents.age for s in subjects])
    oracle = np.array([oracle_age(s.latents) for s in subjects])
    enough = len(subjects) >= MIN_SUBJECTS
    guess = _cross_validate_ridge(rows, ages) if enough else None
    return {
        "unit": "years",
        "mae": _scores(
            float(np.abs(ages - np.median(ages)).mean()),
            float(np.abs(ages - oracle).mean()),
            None if guess is None else float(np.abs(ages - guess).mean()),
        ),
        "r2": _scores(0.0, _r2(ages, oracle), _r2(ages, guess)),
    }


def _sex(subjects: list[Subject], rows: np.ndarray) -> dict:
    male = np.array([s.latents.sex == "M" for s in subjects])
    oracle = np.array([oracle_male(s.latents) for s in subjects])
    both = min(male.sum(), (~male).sum()) >= FOLDS and len(subjects) >= MIN_SUBJECTS
    groups = np.arange(len(subjects))
    guess = _cross_validate_logistic(rows, male, groups)[:, 1] if both else None
    return {
        "positive": "M",
        "auc": _scores(
            0.5,
            float(roc_auc_score(male, oracle)) if both else None,
            float(roc_auc_score(male, guess)) if guess is not None else None,
        ),
    }


def _sequence(scans: list[Features]) -> dict:
    names = np.array([scan.sequence for scan in scans])
    groups = np.array([scan.subject for scan in scans])
    right = None
    if len(set(groups)) >= MIN_SUBJECTS:
        rows = np.array([scan.values for scan in scans])
        order = np.unique(names)
        guess = _cross_validate_logistic(rows, names, groups).argmax(axis=1)
        right = float((order[guess] == names).mean())
    return {"accuracy": _scores(1 / len(set(names)), 1.0, right)}


def _scores(chance: float, oracle: float | None, histogram: float | None) -> dict:
    """Rounded scores; `share` is the way from chance to oracle the histogram goes."""
    share = None
    if oracle is not None and histogram is not None and oracle != chance:
        share = (histogram - chance) / (oracle - chance)
    scores = {"chance": chance, "oracle": oracle, "histogram": histogram}
    scores["share"] = share
    return {k: None if v is None else round(v, 3) for k, v in scores.items()}


def _cross_validate_ridge(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    guess = np.zeros(len(targets))
    for train, test in GroupKFold(FOLDS).split(rows, groups=np.arange(len(rows))):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 19)))
        guess[test] = model.fit(rows[train], targets[train]).predict(rows[test])
    return guess


def _cross_validate_logistic(
    rows: np.ndarray, targets: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    guess = np.zeros((len(targets), len(np.unique(targets))))
    for train, test in GroupKFold(FOLDS).split(rows, groups=groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        guess[test] = model.fit(rows[train], targets[train]).predict_proba(rows[test])
    return guess


def _r2(targets: np.ndarray, guess: np.ndarray | None) -> float | None:
    spread = ((targets - targets.mean()) ** 2).sum()
    if guess is None or spread == 0:
        return None
    return float(1 - ((targets - guess) ** 2).sum() / spread)
