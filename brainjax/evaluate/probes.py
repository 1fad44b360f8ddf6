"""Probes: what simple models read from frozen features."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from brainjax.evaluate import metrics
from brainjax.evaluate.metrics import Metric
from brainjax.tasks.labels import is_number

NEIGHBOURS = 10
ALPHAS = np.logspace(-1, 5, 13)
"""Penalties that ridge regression chooses from, by leave-one-out error."""


class _Answers(NamedTuple):
    """Answers of each model; probabilities [n, k] of the classes, for words only."""

    answers: dict[str, np.ndarray]
    probabilities: Float[np.ndarray, "n k"] | None
    classes: list[str]


def probe_scores(
    train_x: Float[np.ndarray, "n d"],
    train_y: Sequence[Any],
    test_x: Float[np.ndarray, "m d"],
    test_y: Sequence[Any],
) -> dict[str, float]:
    """Fits probes to training features and scores them on others, without intervals.

    Numbers are regressed (ridge, kNN), words classified (logistic regression with
    balanced classes, kNN); features are standardised by the training ones.

    Returns:
      ridge_mae, ridge_r2, knn_mae in the label's unit; or logistic_balanced_accuracy,
      logistic_auc, knn_balanced_accuracy. Empty where nothing can be fitted or scored:
      fewer than two training labels, all of them equal, no test label, features that
      are not finite, numbers among words, or training and test of different types.
    """
    subjects = range(len(test_y))
    found = _score(train_x, train_y, test_x, test_y, subjects, samples=0)
    return {name: metric.value for name, metric in found.items()}


def probe_metrics(
    train_x: Float[np.ndarray, "n d"],
    train_y: Sequence[Any],
    test_x: Float[np.ndarray, "m d"],
    test_y: Sequence[Any],
    subjects: Sequence[Any],
) -> dict[str, Metric]:
    """Like `probe_scores`, with intervals over the subjects of the test scans."""
    return _score(train_x, train_y, test_x, test_y, subjects, samples=metrics.SAMPLES)


def probe_predictions(
    train_x: Float[np.ndarray, "n d"],
    train_y: Sequence[Any],
    test_x: Float[np.ndarray, "m d"],
) -> dict[str, np.ndarray]:
    """Gives answers [m] of `ridge` and `knn`, or of `logistic` and `knn`.

    Empty where nothing can be fitted; see `probe_scores`.
    """
    return _answer(train_x, train_y, test_x).answers


def _score(
    train_x, train_y, test_x, test_y, subjects, *, samples: int
) -> dict[str, Metric]:
    test_x, truth, rows = _labelled(test_x, test_y)
    kinds = {_is_numeric(_labelled(train_x, train_y)[1]), _is_numeric(truth)}
    if not rows or len(kinds) > 1 or None in kinds:
        return {}
    found = _answer(train_x, train_y, test_x)
    whose = [subjects[i] for i in rows]

    def measure(metric: str, model: str) -> Metric:
        function = getattr(metrics, metric)
        return function(truth, found.answers[model], whose, samples=samples)

    if not found.answers:
        return {}
    if found.probabilities is None:
        pairs = [("ridge", "mae"), ("ridge", "r2"), ("knn", "mae")]
        return {f"{model}_{name}": measure(name, model) for model, name in pairs}
    truth = [str(value) for value in truth]
    # A class that training never saw is always wrong, and has no probability.
    seen = [i for i, name in enumerate(truth) if name in found.classes]
    return {
        "logistic_balanced_accuracy": measure("balanced_accuracy", "logistic"),
        "logistic_auc": metrics.auc(
            [truth[i] for i in seen],
            found.probabilities[seen],
            [whose[i] for i in seen],
            found.classes,
            samples=samples,
        ),
        "knn_balanced_accuracy": measure("balanced_accuracy", "knn"),
    }


def _answer(train_x, train_y, test_x) -> _Answers:
    train_x, labels, _ = _labelled(train_x, train_y)
    test_x = np.asarray(test_x, np.float64)
    numeric = _is_numeric(labels)
    usable = numeric is not None and len(test_x) and len(set(labels)) > 1
    if not usable or not (np.isfinite(train_x).all() and np.isfinite(test_x).all()):
        return _Answers({}, None, [])
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    if numeric:
        return _regress(train_x, np.array(labels, np.float64), test_x)
    return _classify(train_x, np.array([str(value) for value in labels]), test_x)


def _regress(train_x, labels, test_x) -> _Answers:
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor

    models = {
        "ridge": RidgeCV(alphas=ALPHAS),
        "knn": KNeighborsRegressor(min(NEIGHBOURS, len(labels))),
    }
    fitted = {name: model.fit(train_x, labels) for name, model in models.items()}
    answers = {name: model.predict(test_x) for name, model in fitted.items()}
    return _Answers(answers, None, [])


def _classify(train_x, labels, test_x) -> _Answers:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    logistic = LogisticRegression(class_weight="balanced", max_iter=5000)
    logistic.fit(train_x, labels)
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(labels))).fit(train_x, labels)
    answers = {"logistic": logistic.predict(test_x), "knn": knn.predict(test_x)}
    classes = [str(name) for name in logistic.classes_]
    return _Answers(answers, logistic.predict_proba(test_x), classes)


def _labelled(features, labels) -> tuple[np.ndarray, list[Any], list[int]]:
    """Features, labels and places of the scans that have a finite label."""
    rows = [i for i, value in enumerate(labels) if _is_finite(value)]
    chosen = np.asarray(features, np.float64)[rows]
    return chosen, [labels[i] for i in rows], rows


def _is_finite(value: Any) -> bool:
    return value is not None and (not is_number(value) or bool(np.isfinite(value)))


def _is_numeric(labels: list[Any]) -> bool | None:
    """Whether labels are numbers or words; None where there is neither, or both."""
    kinds = {is_number(value) for value in labels}
    return kinds.pop() if len(kinds) == 1 else None
