"""What an evaluation says of a task's answers beside its metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainjax.evaluate import metrics
from brainjax.evaluate.calibration import ece, reliability
from brainjax.evaluate.features import Answers
from brainjax.evaluate.guards import Guards, class_codes
from brainjax.evaluate.metrics import Metric
from brainjax.evaluate.outlying import outlying_scores
from brainjax.evaluate.quartiles import one_a_subject, survival_tables
from brainjax.evaluate.regression import bias_slope, correct_bias
from brainjax.evaluate.survival import AUC_SHARES, auc_times
from brainjax.tasks import Classification, Regression, Survival, Task
from brainjax.tasks.labels import number

CORRECTED = (
    "The gap's line on the truth was fitted to validation scans and taken away here, "
    "which needs the truth: an error for comparing groups, not that of a prediction."
)


def assess(
    task: Task,
    answers: Answers,
    values: Sequence[Any],
    subjects: Sequence[Any],
    guards: Guards | None,
    covariates: dict[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """Gives what goes into evaluation.json by names of its own, as JSON values.

    Of a regression bias_correction; of a classification calibration, before and after
    the temperature; of both coverage, of intervals or sets; of a survival task
    survival, the tables of `survival_tables`; of any in_distribution. What guards are
    needed for is left out without them.

    Args:
      task: fitted.
      answers: outputs and features of the labelled test scans.
      values: their labels, as `task.values` gives them.
      subjects: of the scans.
      guards: of the run.
      covariates: columns of the same scans that a hazard ratio is adjusted for.
    """
    found: dict[str, Any] = {}
    if isinstance(task, Regression) and guards is not None:
        found |= _regression(task, answers.outputs, values, subjects, guards)
    elif isinstance(task, Classification):
        found |= _classification(task, answers.outputs, values, subjects, guards)
    elif isinstance(task, Survival):
        found["survival"] = _survival(
            task, answers.outputs, values, subjects, covariates
        )
    reference = None if guards is None else guards.reference
    if reference is not None and np.isfinite(reference.threshold):
        scores = outlying_scores(reference, answers.features)
        share = metrics.mean(scores <= reference.threshold, subjects)
        found["in_distribution"] = {
            "share": share._asdict(),
            "ood_threshold": reference.threshold,
            "ood_score_median": float(np.median(scores)),
        }
    return found


def _regression(
    task: Regression, outputs, values, subjects, guards: Guards
) -> dict[str, Any]:
    truth = np.array([number(value, task.target) for value in values])
    found: dict[str, Any] = {}
    if np.isfinite(guards.quantile):
        low, high = guards.interval(task, outputs)
        inside = (low <= truth) & (truth <= high)
        found["coverage"] = _coverage(guards, inside, subjects)
        found["coverage"]["width"] = 2 * guards.quantile
    if guards.bias is not None:
        corrected = correct_bias(guards.bias, truth, task.decode(outputs))
        given = truth, corrected, subjects
        found["bias_correction"] = {
            "note": CORRECTED,
            **guards.bias._asdict(),
            "mae_bias_corrected": metrics.mae(*given)._asdict(),
            "bias_slope_corrected": bias_slope(*given)._asdict(),
        }
    return found


def _classification(
    task: Classification, outputs, values, subjects, guards: Guards | None
) -> dict[str, Any]:
    codes = class_codes(task, values)

    def calibration(probabilities) -> dict[str, Any]:
        error: Metric = ece(probabilities, codes, subjects)
        plot = reliability(probabilities, codes)
        return {"ece": error._asdict(), "reliability": plot._asdict()}

    before = calibration(task.probabilities(outputs))
    if guards is None:
        return {"calibration": {"before": before}}
    found: dict[str, Any] = {
        "calibration": {
            "temperature": guards.temperature,
            "before": before,
            "after": calibration(guards.probabilities(task, outputs)),
        }
    }
    if np.isfinite(guards.quantile):
        sets, names = guards.sets(task, outputs), task.names(values)
        inside = [name in held for name, held in zip(names, sets, strict=True)]
        found["coverage"] = _coverage(guards, inside, subjects)
        found["coverage"]["classes"] = float(np.mean([len(held) for held in sets]))
    return found


def _coverage(guards: Guards, inside, subjects) -> dict[str, Any]:
    return {
        "wanted": guards.coverage,
        "measured": metrics.mean(inside, subjects)._asdict(),
        "validation_subjects": guards.validated,
    }


def _survival(
    task: Survival, outputs, values, subjects, covariates: dict[str, list[Any]] | None
) -> dict[str, Any]:
    times = np.array([time for time, _ in values])
    events = np.array([came for _, came in values], bool)
    rows = one_a_subject(times, events, task.risk(outputs), subjects)
    columns = {
        name: [column[i] for i in rows.first]
        for name, column in (covariates or {}).items()
    }
    names = [f"auc_t{100 * share:.0f}" for share in AUC_SHARES]
    moments = dict(zip(names, auc_times(times, events), strict=True))
    return {"unit": task.unit, "auc_times": moments, **survival_tables(rows, columns)}
