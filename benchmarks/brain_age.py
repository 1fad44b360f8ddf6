"""Brain age on IXI, five folds by subject: pretraining against its baselines.

    python benchmarks/brain_age.py --ixi IXI_FOLDER --work runs/ixi

Every row sees the same folds. Pretraining sees no subject of the held-out fold. Runs
that are finished are kept, so that the command goes on where it stopped. Writes
`brain_age.json` and prints the table of the README.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainjax.configuration import load_config
from brainjax.evaluate.metrics import mae, paired_difference
from brainjax.infer.evaluation import evaluate_run
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.finetune import finetune
from brainjax.train.pretrain import pretrain
from brainjax.train.scans import split_scans

CONFIGS = Path(__file__).parents[1] / "configs"
FOLDS = 5
ROWS = {
    "pretrained": ("ixi_age.py", ["--config.weights=pretrained"]),
    "from scratch": ("ixi_age.py", ["--config.weights=random"]),
    "small CNN from scratch": ("ixi_age_cnn.py", []),
}
"""Trained rows of the table: config and overrides."""


def main() -> None:
    options = parse()
    data = options.work / "prepared"
    prepare(options.ixi, data)
    dataset = open_dataset(data)
    predictions = {name: {} for name in ROWS}
    for fold in range(options.folds):
        for name, found in train_fold(options.work, data, fold).items():
            predictions[name] |= found
    predictions |= baselines(dataset, options.ixi, options.folds)
    table = compare(dataset, predictions)
    (options.work / "brain_age.json").write_text(json.dumps(table, indent=1) + "\n")
    show(table)


def prepare(ixi: Path, out: Path) -> None:
    """Prepares the scans at 2 mm through the command line, as a user would."""
    command = [sys.executable, "-m", "brainjax.cli", "prepare", str(ixi), "--out"]
    labels = ["--labels", str(ixi / "participants.tsv"), "--spacing", "2"]
    subprocess.run([*command, str(out), *labels], check=True)


def train_fold(work: Path, data: Path, fold: int) -> dict[str, dict[str, float]]:
    """Pretrains without one fold, fine-tunes every row, answers the fold."""
    common = [f"--config.data.path={data}", f"--config.split.fold={fold}"]
    encoder = work / f"pretrain_{fold}"
    if not (encoder / "summary.json").exists():
        pretrain(load_config(CONFIGS / "ixi_pretrain.py", common), encoder)
    found = {}
    for name, (config, overrides) in ROWS.items():
        run = work / f"{name.replace(' ', '_')}_{fold}"
        init = [f"--config.init={encoder}"] if config == "ixi_age.py" else []
        if not (run / "summary.json").exists():
            settings = load_config(CONFIGS / config, [*common, *overrides, *init])
            finetune(settings, run)
        evaluate_run(run)
        found[name] = read_predictions(run / "predictions.csv")
        print(f"fold {fold}, {name}: n = {len(found[name])}", flush=True)
    return found


def read_predictions(path: Path) -> dict[str, float]:
    """Gives the answer of every subject of a predictions table."""
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    subject, answer = header.index("subject"), header.index("prediction")
    return {line[subject]: float(line[answer]) for line in lines}


def baselines(
    dataset: RecordDataset, ixi: Path, folds: int
) -> dict[str, dict[str, float]]:
    """Mean age of the training subjects, and ridge on DLMUSE region volumes."""
    ages = np.array([np.nan if a is None else a for a in dataset.labels("age")])
    subjects = [row["subject"] for row in dataset.rows]
    volumes = region_volumes(dataset, ixi)
    found = {"mean age": {}, "ridge on region volumes": {}}
    for fold in range(folds):
        split = split_scans(
            dataset, seed=0, val=0.1, stratify="age", folds=FOLDS, fold=fold
        )
        train = np.concatenate([split.train, split.val])
        train = train[np.isfinite(ages[train])]
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 29)))
        ridge.fit(volumes[train], ages[train])
        answers = ridge.predict(volumes[split.test])
        for index, answer in zip(split.test, answers, strict=True):
            found["mean age"][subjects[index]] = float(ages[train].mean())
            found["ridge on region volumes"][subjects[index]] = float(answer)
    return found


def region_volumes(dataset: RecordDataset, ixi: Path) -> np.ndarray:
    """Millilitres of every DLMUSE region, [scans, regions]."""
    counts = []
    for row in dataset.rows:
        path = ixi / Path(row["source"]).name.replace("T1w", "dlmuse")
        image = cast(nib.Nifti1Image, nib.load(path))
        voxel = np.prod(image.header.get_zooms()[:3]) / 1000
        labels = np.asarray(image.dataobj).astype(int)
        counts.append(np.bincount(labels.ravel(), minlength=300) * voxel)
    volumes = np.stack(counts)[:, 1:]
    return volumes[:, volumes.any(0)]


def compare(dataset: RecordDataset, predictions: dict) -> dict:
    """MAE with its interval, and the paired difference of each row to the first."""
    known = {
        row["subject"]: age
        for row, age in zip(dataset.rows, dataset.labels("age"), strict=True)
        if age is not None
    }
    subjects = sorted(set(known) & set(predictions["pretrained"]))
    truth = np.array([known[s] for s in subjects])
    errors, table = {}, {}
    for name, found in predictions.items():
        answers = np.array([found[s] for s in subjects])
        errors[name] = np.abs(answers - truth)
        table[name] = {"mae": mae(truth, answers, subjects)._asdict()}
    for name in predictions:
        difference = paired_difference(errors["pretrained"], errors[name], subjects)
        table[name]["pretrained_minus_this"] = difference._asdict()
    return table


def show(table: dict) -> None:
    """Prints the table in Markdown."""
    print("| | MAE, years (95 % interval) | pretrained minus this |\n|---|---|---|")
    for name, row in sorted(table.items(), key=lambda item: item[1]["mae"]["value"]):
        mean, other = row["mae"], row["pretrained_minus_this"]
        within = f"{mean['value']:.2f} ({mean['low']:.2f} to {mean['high']:.2f})"
        difference = "" if name == "pretrained" else interval(other)
        print(f"| {name} | {within} | {difference} |")


def interval(difference: dict) -> str:
    """Writes a difference with its interval."""
    return (
        f"{difference['value']:+.2f} "
        f"({difference['low']:+.2f} to {difference['high']:+.2f})"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ixi", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/ixi"))
    parser.add_argument("--folds", type=int, default=FOLDS, help="fewer for a trial")
    return parser.parse_args()


if __name__ == "__main__":
    main()
