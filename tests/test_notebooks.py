"""Every notebook runs from top to bottom, at a small size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = "subjects, steps = 20, 10\nhome = Path({home!r})\nscans = home / 'phantoms'\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source += "\n" + SMALL.format(home=str(tmp_path))
    settings.source += "labels = scans / 'participants.tsv'"
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute()
    printed = str([cell.get("outputs") for cell in notebook.cells])
    assert "years" in printed
    assert "20 of 20 scans; refused: []" in printed
