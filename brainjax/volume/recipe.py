"""Recipes: how a raw scan becomes a canonical volume, at prepare and at predict.

A recipe has a name, a version and a hash. Two volumes are comparable when their
recipes' hashes are equal. Change a step, and the version goes up.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.volume.aligned import Kept, prepare_aligned
from brainjax.volume.aligned_recipe import (
    ALIGNED_RECIPES,
    ALIGNED_VERSION,
    BIASES,
    REGISTRATIONS,
    AlignedRecipe,
    check_masks,
    check_weights,
)
from brainjax.volume.canonical import Canonical
from brainjax.volume.centred import VERSION, Recipe, check_sizes, prepare_centred
from brainjax.volume.exact import (
    EXACT_RECIPES,
    EXACT_VERSION,
    ExactRecipe,
    prepare_exact,
)
from brainjax.volume.placing import Reference

AnyRecipe = Recipe | AlignedRecipe | ExactRecipe
"""All have name, version, shape, hash, storage, to_dict and describe."""

RECIPES: dict[str, AnyRecipe] = {
    "canonical": Recipe("canonical"),
    "stripped": Recipe("stripped", mask="nonzero"),
    "raw_head": Recipe("raw_head", mask="head"),
    **ALIGNED_RECIPES,
    **EXACT_RECIPES,
}


def make_recipe(
    name: str = "canonical",
    *,
    spacing: float | None = None,
    fov_mm: tuple[float, float, float] | None = None,
    bias: str | None = None,
    registration: str | None = None,
    mask: str | None = None,
    session: bool | None = None,
) -> AnyRecipe:
    """Gives a row of RECIPES, at other settings where they are stated.

    Args:
        name: a key of RECIPES.
        spacing, fov_mm: in mm; exact recipes have their own.
        bias, registration, mask, session: of recipes that lay a head over a template;
            "none" (False) switches a step off. See `AlignedRecipe`.

    Raises InputRefusedError for an unknown name, for sizes that make no volume, and
    for settings that the recipe does not have.
    """
    if name not in RECIPES:
        raise InputRefusedError(
            f"recipe: wanted one of {', '.join(RECIPES)}, got {name!r}"
        )
    recipe = RECIPES[name]
    stated = {"spacing": spacing, "fov_mm": fov_mm, "bias": bias}
    stated |= {"registration": registration, "mask": mask, "session": session}
    stated = {word: value for word, value in stated.items() if value is not None}
    fixed = _fixed(recipe)
    for word, value in stated.items():
        if word in fixed:
            raise InputRefusedError(
                f"{word.replace('_', '-')}: wanted none for recipe "
                f"{recipe.describe()}, got {value}"
            )
    _check_name(name, registration)
    if "spacing" in stated:
        stated["spacing"] = float(stated["spacing"])
    if "fov_mm" in stated:
        stated["fov_mm"] = tuple(float(mm) for mm in stated["fov_mm"])
    recipe = replace(recipe, **stated)
    _check(recipe)
    return recipe


def _fixed(recipe: AnyRecipe) -> tuple[str, ...]:
    """Gives the settings that a recipe does not have, or has of its own."""
    sizes, steps = ("spacing", "fov_mm"), ("bias", "registration", "mask", "session")
    if isinstance(recipe, ExactRecipe):
        return sizes + steps
    if isinstance(recipe, Recipe):
        return steps
    return sizes if recipe.size else ()


def _check_name(name: str, registration: str | None) -> None:
    """Refuses a registration that is another row's: `mni_rigid` says what it is."""
    row = f"mni_{registration}"
    if name.startswith("mni_") and row in RECIPES and row != name:
        raise InputRefusedError(
            f"registration: wanted {name.removeprefix('mni_')} or none for recipe "
            f"{name}, got {registration}; that is recipe {row}"
        )


def _check(recipe: AnyRecipe) -> None:
    if isinstance(recipe, ExactRecipe):
        return
    if isinstance(recipe, Recipe) or not recipe.size:
        check_sizes(recipe, recipe.spacing)
    if isinstance(recipe, AlignedRecipe):
        for word, rows in (("bias", BIASES), ("registration", REGISTRATIONS)):
            value = getattr(recipe, word)
            if value not in rows:
                raise InputRefusedError(
                    f"{word}: wanted one of {', '.join(rows)}, got {value!r}"
                )
        check_masks(recipe.mask)


def recipe_from_dict(values: dict) -> AnyRecipe:
    """Rebuilds a recipe that was written as JSON.

    Raises InputRefusedError where it was made by another version of the code.
    """
    kind, version = Recipe, VERSION
    if "resize" in values:
        kind, version = ExactRecipe, EXACT_VERSION
    elif "registration" in values:
        kind, version = AlignedRecipe, ALIGNED_VERSION
    name, found = values.get("name"), values.get("version")
    if found != version:
        raise InputRefusedError(f"recipe {name}: wanted version {version}, got {found}")
    lists: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
    }
    if kind is AlignedRecipe:
        check_weights(str(name), lists.pop("weights", None))
    try:
        recipe = kind(**lists)
        _check(recipe)
        return recipe
    except TypeError:
        raise InputRefusedError(
            f"recipe {name}: wanted the settings of version {version}, got "
            f"{', '.join(values)}"
        ) from None


def prepare_volume(
    path: str | Path,
    recipe: AnyRecipe,
    *,
    mask_path: str | Path | None = None,
    orientation: str | None = None,
    reference: Reference | None = None,
) -> Canonical:
    """Gives the canonical volume of a raw scan.

    Args:
        path: a NIfTI file or a DICOM series.
        recipe: how.
        mask_path: a mask on the scan's own grid, in place of the recipe's; exact
            recipes take none.
        orientation: of a scan whose header states none, such as "RAS".
        reference: a scan of the same session to go through, for recipes that do.

    Raises InputRefusedError, one line that names the file.
    """
    return prepare_and_keep(
        path,
        recipe,
        mask_path=mask_path,
        orientation=orientation,
        reference=reference,
    )[0]


def prepare_and_keep(
    path: str | Path,
    recipe: AnyRecipe,
    *,
    mask_path: str | Path | None = None,
    orientation: str | None = None,
    reference: Reference | None = None,
) -> tuple[Canonical, Kept | None]:
    """Gives what `prepare_volume` does, and what its recipe keeps beside it.

    Only recipes that look for the brain keep something.
    """
    words: dict[str, Any] = {"mask_path": mask_path, "orientation": orientation}
    if isinstance(recipe, AlignedRecipe):
        return prepare_aligned(path, recipe, reference=reference, **words)
    if isinstance(recipe, Recipe):
        return prepare_centred(path, recipe, **words), None
    if mask_path is not None:
        raise InputRefusedError(
            f"{path}: wanted no mask for recipe {recipe.name}, got {mask_path}"
        )
    return prepare_exact(path, recipe, orientation=orientation), None
