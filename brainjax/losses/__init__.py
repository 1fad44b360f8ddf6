"""Losses: NT-Xent for pairs of views, on any mesh; losses of labels and follow-up."""

from brainjax.losses.contrast import Contrast, contrast
from brainjax.losses.contrastive import contrastive_metrics, has_negatives, ntxent
from brainjax.losses.supervised import (
    Sums,
    cross_entropy,
    divided,
    focal,
    huber,
    l1,
    masked_mean,
    masked_sums,
    mse,
    soft_bins,
    soft_logits,
)
from brainjax.losses.survival import TIES, cox, discrete_time

__all__ = [
    "TIES",
    "Contrast",
    "Sums",
    "contrast",
    "contrastive_metrics",
    "cox",
    "cross_entropy",
    "discrete_time",
    "divided",
    "focal",
    "has_negatives",
    "huber",
    "l1",
    "masked_mean",
    "masked_sums",
    "mse",
    "ntxent",
    "soft_bins",
    "soft_logits",
]
