"""How well each target can be read: from the latents, and from a mere histogram."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.phantom.latents import Subject, oracle_age, oracle_male
from brainjax.phantom.readers import (
    MIN_SUBJECTS,
    auc_scores,
    cross_validate_logistic,
    cross_validate_ridge,
    r2,
    scores,
)
from brainjax.phantom.truth_arms import measure_arms

BINS = 32


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
    return {**targets, **measure_arms(subjects, rows)}


def _age(subjects: list[Subject], rows: np.ndarray) -> dict:
    ages = np.array([s.latents.age for s in subjects])
    oracle = np.array([oracle_age(s.latents) for s in subjects])
    enough = len(subjects) >= MIN_SUBJECTS
    guess = cross_validate_ridge(rows, ages) if enough else None
    return {
        "unit": "years",
        "mae": scores(
            float(np.abs(ages - np.median(ages)).mean()),
            float(np.abs(ages - oracle).mean()),
            None if guess is None else float(np.abs(ages - guess).mean()),
        ),
        "r2": scores(0.0, r2(ages, oracle), r2(ages, guess)),
    }


def _sex(subjects: list[Subject], rows: np.ndarray) -> dict:
    male = np.array([s.latents.sex == "M" for s in subjects])
    oracle = np.array([oracle_male(s.latents) for s in subjects])
    return {"positive": "M", "auc": auc_scores(male, oracle, rows)}


def _sequence(scans: list[Features]) -> dict:
    names = np.array([scan.sequence for scan in scans])
    groups = np.array([scan.subject for scan in scans])
    right = None
    if len(set(groups)) >= MIN_SUBJECTS:
        rows = np.array([scan.values for scan in scans])
        order = np.unique(names)
        guess = cross_validate_logistic(rows, names, groups).argmax(axis=1)
        right = float((order[guess] == names).mean())
    return {"accuracy": scores(1 / len(set(names)), 1.0, right)}
