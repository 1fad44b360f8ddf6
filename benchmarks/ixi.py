"""Brain age and sex on IXI from the images alone, five folds by subject.

    python benchmarks/ixi.py --ixi IXI_FOLDER --work runs/ixi  [--no-cnn]

The folds are those of `brain_age.py`. Every scan is laid over the MNI brain
(`ixi_maps.py`); Gaussian processes answer from its maps (`ixi_models.py`), and a small
CNN the age from its aligned brain (`configs/ixi_age_aligned.py`). Only the two rows on
region volumes look at a region map. The rows of `brain_age.py` are compared where its
runs lie in the same folder. What is finished is kept: the command goes on where it
stopped. Writes `ixi.json` and prints the tables.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from brain_age import (
    FOLDS,
    baselines,
    interval,
    prepare,
    region_volumes,
)
from ixi_cnn import align_brains, earlier_rows, train_rows
from ixi_maps import map_scans
from ixi_models import (
    Kinds,
    by_inner_folds,
    make_candidates,
    make_features,
    make_kinds,
    whole_heads,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainjax.evaluate.classification import delong, delong_test
from brainjax.evaluate.metrics import (
    balanced_accuracy,
    mae,
    paired_difference,
    r2,
)
from brainjax.evaluate.regression import bias_slope
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.scans import split_scans

MAIN = "Gaussian process, all kinds"
"""The row that the others are compared with, named before any fold was answered."""

KINDS = ("tissues", "warped", "growth", "intensity", "outline")
BOTH = "mean of that and of the CNN"
CHOSEN = "Gaussian process, kinds chosen by inner folds"

COUNTS, DRAWS = (28, 57, 85, 110), 5
"""Training subjects of the learning curve, and how often they are drawn a fold."""

AGES = ((20, 40), (40, 60), (60, 80))
"""Years by which the main row's errors are told apart."""

Answers = dict[str, dict[str, float]]


def main() -> None:
    options, started = parse(), time.time()
    data, work = options.work / "prepared", options.work
    prepare(options.ixi, data)
    dataset = open_dataset(data)
    maps = map_scans(dataset, work / "maps", workers=options.workers)
    kinds = make_kinds({"whole head": whole_heads(dataset), **make_features(maps)})
    age, sex = labels_of(dataset)
    answers = {
        "age": process_rows(dataset, kinds, age, choose=True),
        "sex": process_rows(dataset, kinds, sex, choose=False),
    }
    if options.cnn:
        align_brains(dataset, maps, options.ixi, work)
        answers["age"] |= with_cnn(answers["age"][MAIN], train_rows(work))
    answers["age"] |= baselines(dataset, options.ixi, FOLDS) | earlier_rows(work)
    answers["sex"] |= logistic_row(dataset, options.ixi, sex)
    minutes = (time.time() - started) / 60
    result = {
        "age": age_table(dataset, age, answers["age"]),
        "sex": sex_table(dataset, sex, answers["sex"]),
        "curve": learning_curve(dataset, kinds, age),
        "by_age": by_age(dataset, age, answers["age"][MAIN]),
        "by_fold": by_fold(dataset, age, answers["age"][MAIN]),
        "minutes": minutes,
    }
    (work / "ixi.json").write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def labels_of(dataset: RecordDataset) -> tuple[np.ndarray, np.ndarray]:
    """Gives age in years and sex as -1 (F) or 1 (M); NaN where unknown."""
    age = [np.nan if a is None else float(a) for a in dataset.labels("age")]
    codes = {"F": -1.0, "M": 1.0, None: np.nan}
    return np.array(age), np.array([codes[s] for s in dataset.labels("sex")])


def folds_of(dataset: RecordDataset, labels: np.ndarray):
    """Gives the training and held-out scans of every fold, labelled ones only."""
    for fold in range(FOLDS):
        split = split_scans(
            dataset, seed=0, val=0.1, stratify="age", folds=FOLDS, fold=fold
        )
        train = np.sort(np.concatenate([split.train, split.val]))
        yield (
            train[np.isfinite(labels[train])],
            split.test[np.isfinite(labels[split.test])],
        )


def process_rows(
    dataset: RecordDataset, kinds: Kinds, labels: np.ndarray, *, choose: bool
) -> Answers:
    """Answers of Gaussian processes on each kind of feature, and on all of them."""
    sets = {MAIN: KINDS, "Gaussian process, whole head unaligned": ("whole head",)}
    sets |= {f"Gaussian process, {name}": (name,) for name in KINDS}
    candidates = make_candidates(kinds, sets, labels)
    found: Answers = {name: {} for name in candidates}
    if choose:
        found[CHOSEN] = {}
    for train, test in folds_of(dataset, labels):
        subjects = [dataset.rows[i]["subject"] for i in test]
        for name, predict in candidates.items():
            found[name] |= dict(zip(subjects, predict(train, test), strict=True))
        if choose:
            name, answers = by_inner_folds(candidates, labels, train, test)
            print(f"chosen by inner folds: {name}", flush=True)
            found[CHOSEN] |= dict(zip(subjects, answers, strict=True))
    return found


def with_cnn(process: dict[str, float], rows: Answers) -> Answers:
    """Adds the mean of the main row and the CNN's, half of each."""
    (cnn,) = rows.values()
    return {**rows, BOTH: {s: (process[s] + cnn[s]) / 2 for s in cnn}}


def learning_curve(
    dataset: RecordDataset, kinds: Kinds, age: np.ndarray
) -> dict[int, float]:
    """Gives the error of the main row, in years, with fewer training subjects."""
    predict = make_candidates(kinds, {MAIN: KINDS}, age)[MAIN]
    curve = {}
    for count in COUNTS:
        errors = []
        for train, test in folds_of(dataset, age):
            for draw in range(DRAWS):
                some = np.random.default_rng([draw, count]).permutation(train)[:count]
                errors.append(np.abs(predict(np.sort(some), test) - age[test]))
        curve[count] = float(np.concatenate(errors).mean())
    return curve


def logistic_row(dataset: RecordDataset, ixi: Path, sex: np.ndarray) -> Answers:
    """Logistic regression on DLMUSE region volumes, its strength by inner folds."""
    volumes, found = region_volumes(dataset, ixi), {}
    for train, test in folds_of(dataset, sex):
        search = GridSearchCV(
            LogisticRegression(max_iter=5000),
            {"C": np.logspace(-5, 1, 13)},
            scoring="neg_log_loss",
        )
        model = make_pipeline(StandardScaler(), search)
        model.fit(volumes[train], sex[train])
        scores = model.decision_function(volumes[test])
        subjects = [dataset.rows[i]["subject"] for i in test]
        found |= dict(zip(subjects, scores, strict=True))
    return {"logistic regression on region volumes": found}


def age_table(dataset: RecordDataset, age: np.ndarray, answers: Answers) -> dict:
    """Scores of every row, and the paired difference of the main row to it."""
    known = np.flatnonzero(np.isfinite(age))
    subjects, truth = [dataset.rows[i]["subject"] for i in known], age[known]
    given = {name: np.array([a[s] for s in subjects]) for name, a in answers.items()}
    table = {}
    for name, found in given.items():
        errors, best = np.abs(found - truth), np.abs(given[MAIN] - truth)
        scores = {
            "mae": mae(truth, found, subjects),
            "r2": r2(truth, found, subjects),
            "bias_slope": bias_slope(truth, found, subjects),
            "main_minus_this": paired_difference(best, errors, subjects),
        }
        table[name] = {key: score._asdict() for key, score in scores.items()}
    return table


def by_age(
    dataset: RecordDataset, age: np.ndarray, answers: dict[str, float]
) -> dict[str, dict]:
    """Gives count, error and mean gap (answer - age) of the ages between two."""
    found = np.array([answers.get(row["subject"], np.nan) for row in dataset.rows])
    table = {}
    for low, high in AGES:
        gap = (found - age)[(age >= low) & (age < high)]
        table[f"{low}-{high}"] = {
            "n": len(gap),
            "mae": float(np.abs(gap).mean()),
            "gap": float(gap.mean()),
        }
    return table


def by_fold(
    dataset: RecordDataset, age: np.ndarray, answers: dict[str, float]
) -> list[float]:
    """Gives the error of every fold; the first is the one nothing was tried on."""
    found = np.array([answers.get(row["subject"], np.nan) for row in dataset.rows])
    errors = np.abs(found - age)
    return [float(errors[test].mean()) for _, test in folds_of(dataset, age)]


def sex_table(dataset: RecordDataset, sex: np.ndarray, answers: Answers) -> dict:
    """The same of sex: AUC with DeLong's interval, balanced accuracy."""
    known = np.flatnonzero(np.isfinite(sex))
    subjects, male = [dataset.rows[i]["subject"] for i in known], sex[known] > 0
    given = {name: np.array([a[s] for s in subjects]) for name, a in answers.items()}
    table = {}
    for name, found in given.items():
        scores = {
            "auc": delong(male, found, subjects),
            "balanced_accuracy": balanced_accuracy(male, found > 0, subjects),
            "main_minus_this": delong_test(male, given[MAIN], found, subjects),
        }
        table[name] = {key: score._asdict() for key, score in scores.items()}
    return table


def show(result: dict) -> None:
    """Prints both tables in Markdown."""
    print("| age | MAE, years | R2 | bias slope | main minus this |")
    print("|---|---|---|---|---|")
    rows = sorted(result["age"].items(), key=lambda item: item[1]["mae"]["value"])
    _show_rows(rows, ("mae", "r2", "bias_slope"))
    print("\n| sex | AUC | balanced accuracy | main minus this |")
    print("|---|---|---|---|")
    rows = sorted(result["sex"].items(), key=lambda item: -item[1]["auc"]["value"])
    _show_rows(rows, ("auc", "balanced_accuracy"))
    curve = [f"{n}: {years:.2f}" for n, years in result["curve"].items()]
    print(f"\nerror in years by training subjects: {', '.join(curve)}")
    for ages, row in result["by_age"].items():
        print(f"{ages}: n {row['n']}, error {row['mae']:.2f}, gap {row['gap']:+.2f}")
    print("by fold:", ", ".join(f"{years:.2f}" for years in result["by_fold"]))
    print(f"{result['minutes']:.1f} minutes")


def _show_rows(rows: list, scores: tuple[str, ...]) -> None:
    for name, row in rows:
        cells = [_within(row[score]) for score in scores]
        other = row["main_minus_this"]
        if "difference" in other:
            other = {**other, "value": other["difference"]}
        cells.append("" if name == MAIN else interval(other))
        print(f"| {name} | " + " | ".join(cells) + " |")


def _within(score: Mapping[str, float]) -> str:
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--ixi", type=Path, required=True)
    add("--work", type=Path, default=Path("runs/ixi"))
    add("--workers", type=int, default=2, help="processes that lay scans over the MNI")
    add("--no-cnn", dest="cnn", action="store_false", help="leave the CNN out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
