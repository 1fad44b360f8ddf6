"""Scores of a segmentation run: every structure of every held-out scan, with intervals.

On the grid of the prepared volumes, where the label maps were resampled to once.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from brainjax.errors import InputRefusedError
from brainjax.evaluate.segmentation import Row, score_scan, summarise, write_rows
from brainjax.infer.program import make_program
from brainjax.records.segmentations import Segmentations
from brainjax.records.store import RecordDataset
from brainjax.tasks import Segmentation
from brainjax.train.restore import Run
from brainjax.volume.exact import ExactRecipe

MEANING = (
    "Research software. Dice of 1: outlined as in the label maps; mean: over the "
    "structures that a scan has."
)


def score_outlines(
    run: Run, cases: RecordDataset, test: Int[np.ndarray, " n"], table: Path
) -> dict[str, Any]:
    """Outlines the test scans that have label maps, and scores every structure.

    Args:
      run: of kind "segment".
      cases: a prepared data set, as scans or as the run's cases.
      test: which of them.
      table: gets a line for every structure of every scan (CSV).

    Returns:
      What evaluation.json says of it.

    Raises:
      InputRefusedError: no test scan has a label map.
    """
    task = run.task
    assert isinstance(task, Segmentation)
    dataset = Segmentations(cases, task.numbering())
    known = [int(i) for i in test if dataset.labelled[i]]
    if not known:
        raise InputRefusedError(
            f"{cases.folder}: wanted test scans with label maps, got none"
        )
    program, rows = make_program(run), []
    for index in known:
        volumes = dataset.read(index)
        answer = decided(program.call(volumes[:-1]), task)
        rows += _rows(dataset, index, volumes[-1], answer, task)
    write_rows(rows, table)
    metrics = {
        f"{structure}/{name}": metric._asdict()
        for structure, found in summarise(rows).items()
        for name, metric in found.items()
    }
    return {
        "task": task.name,
        "target": ", ".join(task.classes),
        "unit": task.unit,
        "n_scans": len(known),
        "n_subjects": len({row.subject for row in rows}),
        "meaning": MEANING,
        "windows": program.count,
        "metrics": metrics,
    }


def decided(
    chances: Float32[np.ndarray, "c x y z"], task: Segmentation
) -> Bool[np.ndarray, "x y z n"]:
    """Gives which structures each voxel is said to belong to."""
    if task.sigmoid:
        return np.moveaxis(chances > 0.5, 0, -1)
    return chances.argmax(0)[..., None] == np.arange(1, len(chances))


def _rows(
    dataset: Segmentations,
    index: int,
    truth: np.ndarray,
    answer: Bool[np.ndarray, "x y z n"],
    task: Segmentation,
) -> list[Row]:
    row, members = dataset.rows[index], task.partition.regions
    recipe = dataset.recipe
    assert not isinstance(recipe, ExactRecipe)  # `Segmentations` refuses them
    # Canonical volumes are upright: lengths need the spacing alone.
    affine = np.diag([*[recipe.spacing] * 3, 1.0])
    scores = score_scan(truth, answer, task.classes, affine, members=members)
    return [Row(row["source"], row["subject"], n, s) for n, s in scores.items()]
