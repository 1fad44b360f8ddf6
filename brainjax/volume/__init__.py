"""Raw scan to canonical volume: read, orient, mask, resample, scale. No JAX here."""

from brainjax.volume.canonical import Canonical, Codes
from brainjax.volume.exact import ExactRecipe, check_trainable
from brainjax.volume.recipe import (
    RECIPES,
    AnyRecipe,
    Recipe,
    make_recipe,
    prepare_volume,
    recipe_from_dict,
)
from brainjax.volume.scan import Scan, read_scan

__all__ = [
    "RECIPES",
    "AnyRecipe",
    "Canonical",
    "Codes",
    "ExactRecipe",
    "Recipe",
    "Scan",
    "check_trainable",
    "make_recipe",
    "prepare_volume",
    "read_scan",
    "recipe_from_dict",
]
