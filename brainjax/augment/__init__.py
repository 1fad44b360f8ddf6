"""Augmentation: draw parameters from a key, apply them to a stored volume, jitted.

A view is drawn and applied where the model runs, inside the compiled step; the host
only reads uint8 codes. Every draw is a function of its key, so that a view replays.
"""

from brainjax.augment.chain import Augmentation, make_augmentation, random_views
from brainjax.augment.intensity import AUGMENTATIONS, Draw
from brainjax.augment.resize import resize
from brainjax.augment.synthesis import Synthesis, make_synthesis, synthesise
from brainjax.augment.views import (
    View,
    case_view,
    evaluation_view,
    normalise,
    view_keys,
)

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Draw",
    "Synthesis",
    "View",
    "case_view",
    "evaluation_view",
    "make_augmentation",
    "make_synthesis",
    "normalise",
    "random_views",
    "resize",
    "synthesise",
    "view_keys",
]
