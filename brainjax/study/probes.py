"""Linear probes: what a linear model reads from features that do not move.

Ridge, logistic and Cox regression with a quadratic penalty, which is chosen inside the
training cases alone, by cross-validation over their subjects. Each gives outputs as the
network of the task would, so that one score serves all.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.errors import MissingExtraError
from brainjax.tasks import Task

PENALTIES = np.logspace(-1, 5, 13)
"""Of ridge, times the squared weights of standardised features."""
INVERSE_PENALTIES = np.logspace(-5, 0, 6)
"""Of logistic regression: C of scikit-learn."""
COX_PENALTIES = np.logspace(0, 4, 5)
FOLDS = 5
FALLBACK = {"logistic": 1e-2, "cox": 1e2, "ridge": 1e2}
"""Penalties where there are too few cases to choose: one a class, say."""
LEAST = 1e-9
"""Smallest probability that a probe gives."""


class Turned(NamedTuple):
    """Features standardised and turned to at most as many axes as there are cases.

    A quadratic penalty does not see a rotation, so the models are the same and small.
    """

    train: Float[np.ndarray, "n r"]
    test: Float[np.ndarray, "m r"]


def turn(train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"]) -> Turned:
    """Standardises by the training cases, and drops the directions they do not have."""
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    mean, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 1e-8 * (1 + np.abs(mean)), spread, np.inf)
    train, test = (train - mean) / spread, (test - mean) / spread
    _, sizes, axes = np.linalg.svd(train, full_matrices=False)
    axes = axes[sizes > 1e-9 * max(sizes.max(initial=0.0), 1e-30)]
    if not len(axes):
        return Turned(np.zeros((len(train), 1)), np.zeros((len(test), 1)))
    return Turned(train @ axes.T, test @ axes.T)


def probe_outputs(
    task: Task,
    train: Float[np.ndarray, "n d"],
    values: Sequence[Any],
    subjects: Sequence[Any],
    test: Float[np.ndarray, "m d"],
) -> Float[np.ndarray, "m k"]:
    """Fits a probe to training cases and gives its outputs for others.

    Args:
      task: fitted to `values`: a regression with its plain loss, a classification, or
        a survival task with Cox's.
      train, test: features.
      values: of the training cases, none of them None.
      subjects: of the training cases; the penalty is chosen across them.

    Returns:
      Outputs as of the task's network: z-scores, log probabilities, log hazards.

    Raises:
      MissingExtraError: survival without scikit-survival.
    """
    numbers = {name: i for i, name in enumerate(dict.fromkeys(subjects))}
    groups = np.array([numbers[name] for name in subjects])
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    # These products are small: threads would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return _PROBES[task.name](task, turn(train, test), values, groups)


def _ridge(task, features: Turned, values, groups) -> Float[np.ndarray, "m 1"]:
    from sklearn.linear_model import RidgeCV

    targets = np.asarray(task.encode(values)[0], np.float64)
    folds = None if _one_each(groups) else _folds(np.zeros(len(groups), int), groups)
    penalties = PENALTIES if len(targets) > 3 else [FALLBACK["ridge"]]
    model = RidgeCV(alphas=penalties, cv=folds or None)
    return model.fit(features.train, targets).predict(features.test)[:, None]


def _logistic(task, features: Turned, values, groups) -> Float[np.ndarray, "m k"]:
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

    classes = np.asarray(task.encode(values)[0])
    words: dict[str, Any] = {"class_weight": "balanced", "max_iter": 2000}
    folds = _folds(classes, groups)
    with warnings.catch_warnings():
        # scikit-learn renames what it is told, release by release.
        warnings.simplefilter("ignore", FutureWarning)
        if folds:
            words |= {"Cs": INVERSE_PENALTIES, "cv": folds, "scoring": "neg_log_loss"}
            model = LogisticRegressionCV(**words)
        else:
            model = LogisticRegression(C=FALLBACK["logistic"], **words)
        model.fit(features.train, classes)
    # A stated class that training lacks is next to impossible; none is altogether so.
    outputs = np.full((len(features.test), task.outputs), np.log(LEAST))
    seen = np.asarray(model.classes_, int)
    probabilities = np.asarray(model.predict_proba(features.test))
    outputs[:, seen] = np.log(np.maximum(probabilities, LEAST))
    return outputs


def _cox(task, features: Turned, values, groups) -> Float[np.ndarray, "m 1"]:
    times = np.array([time for time, _ in values], np.float64)
    events = np.array([event for _, event in values], bool)
    penalty = FALLBACK["cox"]
    folds = _folds(events.astype(int), groups)
    if folds:
        gains = [
            _cox_gain(features.train, times, events, p, folds) for p in COX_PENALTIES
        ]
        penalty = float(COX_PENALTIES[int(np.argmax(gains))])
    weights = _fit_cox(features.train, times, events, penalty)
    return (features.test @ weights)[:, None]


def _fit_cox(features, times, events, penalty: float) -> Float[np.ndarray, " r"]:
    try:
        from sksurv.linear_model import CoxPHSurvivalAnalysis
    except ImportError:
        raise MissingExtraError("scikit-survival", "survival") from None
    outcome = np.array(
        list(zip(events, times, strict=True)), dtype=[("event", bool), ("time", float)]
    )
    words: dict[str, Any] = {"alpha": penalty, "ties": "efron"}
    model = CoxPHSurvivalAnalysis(**words)
    return np.asarray(model.fit(features, outcome).coef_)


def _cox_gain(features, times, events, penalty: float, folds) -> float:
    """The cross-validated partial likelihood of Verweij and van Houwelingen 1993."""
    total = 0.0
    for kept, _ in folds:
        weights = _fit_cox(features[kept], times[kept], events[kept], penalty)
        risks = features @ weights
        total += partial_likelihood(risks, times, events)
        total -= partial_likelihood(risks[kept], times[kept], events[kept])
    return total


def partial_likelihood(
    risks: Float[np.ndarray, " n"], times: Float[np.ndarray, " n"], events
) -> float:
    """Cox's log partial likelihood of log hazards, Breslow's way with ties."""
    at_risk = times[None] >= times[events][:, None]
    highest = risks.max(initial=0.0)
    pools = np.log((at_risk * np.exp(risks - highest)).sum(1)) + highest
    return float((risks[events] - pools).sum())


def _folds(
    classes: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds by subject with every class in each training part; [] where none are."""
    from sklearn.model_selection import StratifiedGroupKFold

    members = [len(np.unique(groups[classes == c])) for c in np.unique(classes)]
    count = min(FOLDS, *members) if members else 0
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the least class, which we counted
        split = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        found = list(split.split(np.zeros(len(classes)), classes, groups))
    whole = len(np.unique(classes))
    both = all(len(np.unique(classes[part])) == whole for f in found for part in f)
    return found if both else []


def _one_each(groups: Int[np.ndarray, " n"]) -> bool:
    return len(np.unique(groups)) == len(groups)


_PROBES = {"regression": _ridge, "classification": _logistic, "survival": _cox}
"""By the name of the task."""
