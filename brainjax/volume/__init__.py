"""Raw scan to canonical volume: read, orient, mask, resample, scale. No JAX here."""

from brainjax.volume.recipe import (
    RECIPES,
    Canonical,
    Recipe,
    make_recipe,
    prepare_volume,
)
from brainjax.volume.scan import Scan, read_scan

__all__ = [
    "RECIPES",
    "Canonical",
    "Recipe",
    "Scan",
    "make_recipe",
    "prepare_volume",
    "read_scan",
]
