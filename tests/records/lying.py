"""Sessions for tests: what is quick of the recipes that look for the brain."""

from pathlib import Path
from typing import Any

from brainjax.records.prepare import Prepared, prepare
from brainjax.volume.recipe import make_recipe

STEPS: dict[str, Any] = {"bias": "none", "registration": "none", "mask": "nonzero"}
RECIPE = make_recipe("mni_affine", spacing=8.0, **STEPS)
"""Without template; the scans of a session go through one of them all the same."""

WORDS = ["--recipe", "mni_affine", "--spacing", "8"]
WORDS += [word for name, value in STEPS.items() for word in (f"--{name}", value)]
"""The same on the command line."""


def lay(sources, out: Path, **words) -> Prepared:
    """Prepares through RECIPE."""
    return prepare(sources, out, RECIPE, progress=False, **words)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
