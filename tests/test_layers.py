"""Rooms know only the rooms above them, and importing one does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "brainjax"
ROOMS = [
    *("errors", "anatomy", "volume", "records", "phantom", "data", "augment"),
    *("models", "losses", "tasks", "evaluate", "parallel", "optim", "checkpoint"),
    *("configuration", "train", "infer", "explain", "interop", "study", "report"),
    "cli",
]
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
NUMPY_ONLY = ("volume", "records")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Names a file imports, also inside functions: "jax.numpy", "brainjax.volume"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_only_upwards(path):
    here = room(path)
    assert here in ROOMS
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "brainjax" and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= ROOMS.index(here), f"{here} imports {name}"
        if here in NUMPY_ONLY:
            assert parts[0] not in ("jax", "flax", "optax", "orbax"), name


IMPORT_ALL = """
import importlib, os, sys
before = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
# Libraries may note what they did; ours must neither set nor change anything.
changed = {k for k in os.environ if os.environ[k] != before.get(k)}
assert not any("JAX" in k or "XLA" in k or "BRAINJAX" in k for k in changed), changed
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


IMPORT_NUMPY_ONLY = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
assert "jax" not in sys.modules
"""


def python(code: str, files: list[Path]) -> None:
    names = [".".join(p.relative_to(ROOT.parent).with_suffix("").parts) for p in files]
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_importing_starts_no_backend():
    python(IMPORT_ALL, FILES)


def test_preparing_scans_does_not_load_jax():
    python(IMPORT_NUMPY_ONLY, [p for p in FILES if room(p) in NUMPY_ONLY])
