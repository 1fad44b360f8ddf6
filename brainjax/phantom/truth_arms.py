"""How well the labels of the arms can be read: oracle, and a mere histogram."""

from collections.abc import Callable

import numpy as np

from brainjax.phantom.glioma import draw_glioma
from brainjax.phantom.latents import Subject
from brainjax.phantom.mci import draw_mci
from brainjax.phantom.readers import (
    FOLDS,
    MIN_SUBJECTS,
    auc_scores,
    cross_validate_ridge,
    r2,
    scores,
)
from brainjax.phantom.stroke import draw_stroke, oracle_days
from brainjax.phantom.survival import c_index, draw_survival, one_year


def measure_arms(subjects: list[Subject], rows: np.ndarray) -> dict:
    """Gives the targets that the arms bring, each over the subjects it is known of.

    `rows` [n, f] is what the histogram's reader sees of each subject. Nothing for a
    cohort without arms.
    """
    arms = np.array([s.arm or "" for s in subjects])
    targets = {}
    for name, (members, measure) in _TARGETS.items():
        chosen = np.flatnonzero(np.isin(arms, members))
        if members[-1] in arms:
            targets[name] = measure([subjects[i] for i in chosen], rows[chosen])
    return targets


def _mci(subjects: list[Subject], rows: np.ndarray) -> dict:
    ill = np.array([s.arm == "mci" for s in subjects])
    loss = np.array([draw_mci(s).hippocampal_loss for s in subjects])
    return {"positive": "mci", "auc": auc_scores(ill, loss, rows)}


def _idh(subjects: list[Subject], rows: np.ndarray) -> dict:
    tumours = [draw_glioma(s) for s in subjects]
    mutant = np.array([t.idh == "mutant" for t in tumours])
    oracle = np.array([t.oracle_mutant for t in tumours])
    return {"positive": "mutant", "auc": auc_scores(mutant, oracle, rows)}


def _survival(subjects: list[Subject], rows: np.ndarray) -> dict:
    """C-index; the oracle is the true hazard: what can be attained, not 1."""
    lives = [draw_survival(s) for s in subjects]
    times = np.array([life.survival_days for life in lives], float)
    events = np.array([life.event for life in lives])
    hazard = np.array([life.log_hazard for life in lives])
    guess = None
    if len(subjects) >= MIN_SUBJECTS:
        guess = cross_validate_ridge(rows, events - cumulative_hazard(times, events))
    oracle = c_index(times, events, hazard)
    reached = None if guess is None else c_index(times, events, guess)
    return {
        "unit": "days",
        "events": int(events.sum()),
        "c_index": scores(0.5, oracle, reached),
    }


def cumulative_hazard(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Gives the Nelson-Aalen estimate at each subject's own time, [n].

    An event less this is the martingale residual of a model that knows nothing: a
    number without censoring that a ridge can be fitted to.
    """
    at_risk = (times[None] >= times[:, None]).sum(axis=1)
    steps = events / at_risk
    return ((times[None] <= times[:, None]) * steps[None]).sum(axis=1)


def _one_year(subjects: list[Subject], rows: np.ndarray) -> dict:
    lives = [draw_survival(s) for s in subjects]
    dead = [one_year(life) for life in lives]
    known = [i for i, value in enumerate(dead) if value is not None]
    hazard = np.array([lives[i].log_hazard for i in known])
    died = np.array([dead[i] for i in known], bool)
    return {"positive": "yes", "auc": auc_scores(died, hazard, rows[known])}


def _stroke(subjects: list[Subject], rows: np.ndarray) -> dict:
    """Days; the ridge is fitted to their logarithm, which serves it better."""
    strokes = [draw_stroke(s) for s in subjects]
    days = np.array([s.stroke_days for s in strokes])
    oracle = np.array([oracle_days(s) for s in strokes])
    guess = None
    if len(subjects) >= max(MIN_SUBJECTS, FOLDS):
        guess = np.exp(cross_validate_ridge(rows, np.log(days)))
    return {
        "unit": "days",
        "mae": scores(
            float(np.abs(days - np.median(days)).mean()),
            float(np.abs(days - oracle).mean()),
            None if guess is None else float(np.abs(days - guess).mean()),
        ),
        "r2": scores(0.0, r2(days, oracle), r2(days, guess)),
    }


_Measure = Callable[[list[Subject], np.ndarray], dict]

_TARGETS: dict[str, tuple[tuple[str, ...], _Measure]] = {
    "mci": (("healthy", "mci"), _mci),
    "idh": (("glioma",), _idh),
    "survival_days": (("glioma",), _survival),
    "one_year_survival": (("glioma",), _one_year),
    "stroke_days": (("stroke",), _stroke),
}
