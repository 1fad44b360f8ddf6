"""Every notebook is short, stripped, and runs from top to bottom at a small size."""

from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZES = {
    "finetune": "subjects, steps = 60, 30",
    "quickstart": "subjects, steps = 60, 30",
}
PRINTS = {
    "finetune": ("60 of 60 scans; refused: []", "mae", "baseline", "refused: []"),
    "quickstart": ("refused: []", "prediction", "in_distribution"),
}
PICTURES = {"finetune": 4, "quickstart": 3}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def test_the_notebooks_are_those_that_are_run():
    assert [path.stem for path in NOTEBOOKS] == sorted(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_notebook_is_short_and_stripped(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 10
    assert "Research use only" in notebook.cells[0].source
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell.metadata


@pytest.mark.parametrize("name", SIZES)
def test_every_cell_of_a_notebook_compiles(name):
    python = TransformerManager()
    for number, cell in enumerate(read(name).cells):
        if cell.cell_type == "code":
            compile(python.transform_cell(cell.source), f"cell {number}", "exec")


def test_the_longer_notebook_says_what_its_answers_are_not():
    text = " ".join(" ".join(c.source.split()) for c in read("finetune").cells)
    for words in ("brain-age gap", "no diagnosis", "survival score", "no time left"):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_notebook_runs_and_again_goes_on(name, tmp_path):
    first = execute(name, tmp_path)
    printed = str([cell.get("outputs") for cell in first.cells])
    for words in PRINTS[name]:
        assert words in printed
    assert printed.count("'image/png'") == PICTURES[name]
    summary = next(tmp_path.glob("*/summary.json"))
    written = summary.stat().st_mtime_ns
    # As after a disconnect: nothing that is finished is done twice.
    execute(name, tmp_path)
    assert summary.stat().st_mtime_ns == written


def execute(name: str, home: Path) -> nbformat.NotebookNode:
    notebook = read(name)
    settings = next(c for c in notebook.cells if "home = Path(" in c.source)
    settings.source += f"\nhome = Path({str(home)!r})\n{SIZES[name]}"
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    return notebook
