"""Losses: NT-Xent for pairs of views, on any mesh, and losses of labelled samples."""

from brainjax.losses.contrast import Contrast, contrast
from brainjax.losses.contrastive import contrastive_metrics, has_negatives, ntxent
from brainjax.losses.supervised import (
    Sums,
    cross_entropy,
    huber,
    masked_mean,
    masked_sums,
    mse,
)

__all__ = [
    "Contrast",
    "Sums",
    "contrast",
    "contrastive_metrics",
    "cross_entropy",
    "has_negatives",
    "huber",
    "masked_mean",
    "masked_sums",
    "mse",
    "ntxent",
]
