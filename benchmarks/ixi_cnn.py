"""The small CNN on brains that were laid over the template: data, folds, answers."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from brain_age import CONFIGS, FOLDS, ROWS, read_predictions
from ixi_align import BOX_MM
from ixi_maps import load_maps

from brainjax.configuration import load_config
from brainjax.infer.evaluation import evaluate_run
from brainjax.records.store import RecordDataset
from brainjax.train.finetune import finetune

CNN = "small CNN, aligned brain"


def align_brains(
    dataset: RecordDataset, maps: list[Path], ixi: Path, work: Path
) -> None:
    """Writes the aligned brains as scans and prepares them at 4 mm, as a user would."""
    scans = work / "aligned"
    scans.mkdir(exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [low + 1 for low, _ in BOX_MM]
    for row, one in zip(dataset.rows, maps, strict=True):
        path = scans / Path(row["source"]).name
        if not path.exists():
            nib.save(nib.Nifti1Image(load_maps(one).brain, affine), path)
    table = scans / "participants.tsv"
    shutil.copy(ixi / "participants.tsv", table)
    command = [sys.executable, "-m", "brainjax.cli", "prepare", str(scans), "--out"]
    words = ["--labels", str(table), "--spacing", "4"]
    subprocess.run([*command, str(work / "aligned_4mm"), *words], check=True)


def train_rows(work: Path) -> dict[str, dict[str, float]]:
    """Trains the small CNN on the aligned brains of every fold; gives its answers."""
    found = {}
    data = f"--config.data.path={work / 'aligned_4mm'}"
    for fold in range(FOLDS):
        run = work / f"aligned_age_{fold}"
        if not (run / "summary.json").exists():
            words = [data, f"--config.split.fold={fold}"]
            finetune(load_config(CONFIGS / "ixi_age_aligned.py", words), run)
        evaluate_run(run)
        found |= read_predictions(run / "predictions.csv")
        print(f"fold {fold}, {CNN}: trained", flush=True)
    return {CNN: found}


def earlier_rows(work: Path) -> dict[str, dict[str, float]]:
    """Answers of the runs of `brain_age.py`, of rows whose folds are all there."""
    found = {}
    for name in ROWS:
        runs = [work / f"{name.replace(' ', '_')}_{fold}" for fold in range(FOLDS)]
        tables = [run / "predictions.csv" for run in runs]
        if all(table.exists() for table in tables):
            merged = {}
            for table in tables:
                merged |= read_predictions(table)
            found[f"{name}, whole head"] = merged
    return found
