"""Evaluation: metrics with intervals over subjects, scores of tasks, probes."""

from brainjax.evaluate.guards import Guards, fit_guards
from brainjax.evaluate.metrics import Metric, paired_difference
from brainjax.evaluate.probes import probe_metrics, probe_predictions, probe_scores
from brainjax.evaluate.scores import score, score_baseline

__all__ = [
    "Guards",
    "Metric",
    "fit_guards",
    "paired_difference",
    "probe_metrics",
    "probe_predictions",
    "probe_scores",
    "score",
    "score_baseline",
]
