"""Evaluation: metrics with intervals over subjects, scores of tasks, probes."""

from brainjax.evaluate.metrics import Metric, paired_difference
from brainjax.evaluate.probes import probe_metrics, probe_predictions, probe_scores
from brainjax.evaluate.scores import score, score_baseline

__all__ = [
    "Metric",
    "paired_difference",
    "probe_metrics",
    "probe_predictions",
    "probe_scores",
    "score",
    "score_baseline",
]
