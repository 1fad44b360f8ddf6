"""Losses: NT-Xent of views, on any mesh; of labels, of follow-up, and of voxels."""

from brainjax.losses.compared import Compared, compare, region_probabilities
from brainjax.losses.contrast import Contrast, contrast
from brainjax.losses.contrastive import contrastive_metrics, has_negatives, ntxent
from brainjax.losses.distances import signed_distances
from brainjax.losses.segmentation import (
    SEGMENTATION_LOSSES,
    boundary_of,
    coarsen,
    cross_entropy_of,
    deep_supervised,
    dice_ce_boundary,
    dice_cross_entropy,
    dice_focal,
    dice_of,
    focal_of,
    soft_dice,
)
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
    "SEGMENTATION_LOSSES",
    "TIES",
    "Compared",
    "Contrast",
    "Sums",
    "boundary_of",
    "coarsen",
    "compare",
    "contrast",
    "contrastive_metrics",
    "cox",
    "cross_entropy",
    "cross_entropy_of",
    "deep_supervised",
    "dice_ce_boundary",
    "dice_cross_entropy",
    "dice_focal",
    "dice_of",
    "discrete_time",
    "divided",
    "focal",
    "focal_of",
    "has_negatives",
    "huber",
    "l1",
    "masked_mean",
    "masked_sums",
    "mse",
    "ntxent",
    "region_probabilities",
    "signed_distances",
    "soft_bins",
    "soft_dice",
    "soft_logits",
]
