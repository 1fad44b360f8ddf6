"""Run folders as brainjax leaves them, made of numbers that a test chooses."""

import csv
import json
from pathlib import Path

import numpy as np

VERSIONS = {"brainjax": "0.1.0.dev0", "jax": "0.10.2", "python": "3.11.2"}


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def log(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def head(seed: int, size: int = 24) -> np.ndarray:
    """A z-scored ellipsoid, bright in front, right and on top."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    inside = ((grid / np.array([0.7, 0.9, 0.7])[:, None, None, None]) ** 2).sum(0) < 1
    noise = np.random.default_rng(seed).normal(0, 0.3, inside.shape)
    values = grid.sum(0) + noise
    values = (values - values[inside].mean()) / values[inside].std()
    return np.where(inside, values, 0).astype(np.float32)


def pretrain_run(path: Path, *, subjects: list[str], steps: int = 60) -> Path:
    rng = np.random.default_rng(0)
    config = {
        "kind": "pretrain",
        "seed": 3,
        "encoder": {"name": "vit"},
        "train": {"batch": 32, "steps": steps},
        "split": {"seed": 5},
        "data": {"path": "runs/prepared"},
    }
    write_json(path / "config.json", config)
    rows = [
        {"step": s, "loss": 1 + 3 * np.exp(-s / 20), "seconds": s, "learning_rate": 0.1}
        for s in range(1, steps + 1, 2)
    ]
    rows += [
        {
            "step": s,
            "probe/age/ridge_mae": 12 - s / 10,
            "probe/age/knn_mae": 13 - s / 12,
            "probe/sex/logistic_balanced_accuracy": 0.5 + s / 200,
        }
        for s in (20, 40, 60)
    ]
    log(path / "metrics.jsonl", sorted(rows, key=lambda row: row["step"]))
    views = np.stack([head(i) for i in range(3)])
    np.savez(
        path / "views.npz", first=views, second=views[:, ::-1], subjects=subjects[:3]
    )
    age = np.linspace(20, 80, len(subjects))
    features = rng.normal(size=(len(subjects), 16)) + np.outer(age / 10, np.ones(16))
    labels = {
        "age": [float(a) for a in age[:-1]] + [None],
        "sex": ["FM"[i % 2] for i in range(len(subjects))],
        "sequence": ["T1w"] * len(subjects),
    }
    np.savez(
        path / "embeddings.npz",
        features=features,
        subjects=subjects,
        parts=["train"] * len(subjects),
        labels_json=json.dumps(labels),
    )
    summary = {
        "steps": steps,
        "seconds": 171.4,
        "scans_per_second": 74.7,
        "views_per_second": 149.4,
        "model_tflop_per_second": 0.1286,
        "mfu": 0.3675,
        "mfu_of": "0.35 TFLOP/s float32, a matrix product measured here",
        "scan_gflop": 1.722,
        "input_wait_share": 0.0213,
        "compile_seconds": 12.4,
        "peak_memory_gib": 2.062,
        "peak_memory_of": "the process",
        "device_hours": 0.04764,
        "skipped_steps": 0,
        "train_scans": len(subjects),
        "bad_records": {},
        "device": "1 x cpu (2 cores, x86_64)",
        "parameters": 2_870_000,
        "versions": VERSIONS,
        "checkpoint": "c0ffee",
        "recipe": "abc123def456",
    }
    write_json(path / "summary.json", summary)
    return path


def finetune_run(
    path: Path,
    *,
    init: str,
    answers: np.ndarray,
    targets: np.ndarray,
    task: str = "regression",
    target: str = "age",
    subjects: list[str] | None = None,
    baseline: float = 12.0,
    **config,
) -> Path:
    """A run that gave these answers; its intervals are made up."""
    subjects = subjects or [f"test-{i:02d}" for i in range(len(targets))]
    unit = "years" if task == "regression" else None
    weights = "random" if init == "scratch" else "pretrained"
    config = {"kind": "finetune", "seed": 0, "weights": weights, **config}
    write_json(
        path / "config.json", config | {"task": {"name": task, "target": target}}
    )
    rows = [{"step": s, "loss": 2 / s} for s in range(1, 40)]
    rows += [{"step": s, "validation/loss": 2.2 / s} for s in (10, 20, 30)]
    log(path / "metrics.jsonl", rows)
    summary = {
        "init": init,
        "encoder_mode": "whole",
        "steps": 40,
        "seconds": 31.0,
        "train_scans": 24,
        "versions": VERSIONS,
        "checkpoint": "decade",
        "recipe": "abc123def456",
    }
    write_json(path / "summary.json", summary)
    if task == "regression":
        value = float(np.abs(answers - targets).mean())
        name, known = "mae", "training mean"
    else:
        value, name, known = (
            float((answers == targets).mean()),
            "accuracy",
            "most frequent class",
        )
    spread = 0.2 * value
    n = len(set(subjects))
    metric = {"value": value, "low": value - spread, "high": value + spread, "n": n}
    evaluation = {
        "task": task,
        "target": target,
        "unit": unit,
        "split": "test",
        "n_scans": len(targets),
        "n_subjects": n,
        "metrics": {name: metric},
        "baseline": {"name": known, "metrics": {name: {"value": baseline}}},
        "seed": 0,
        "checkpoint": "decade",
        "recipe": "abc123def456",
        "command": f"brainjax evaluate {path.name}",
    }
    write_json(path / "evaluation.json", evaluation)
    with (path / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "subject", "target", "prediction"])
        for i, row in enumerate(zip(subjects, targets, answers, strict=True)):
            writer.writerow([f"scan-{i}.nii.gz", *row])
    return path
