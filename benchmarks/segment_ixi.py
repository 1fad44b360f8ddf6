"""Seven structures on IXI: a pretrained ViT against the same from scratch and a U-Net.

    brainjax prepare IXI --label-maps dlmuse --recipe raw_head --spacing 2 \
        --fov-mm 192 224 192 --labels IXI/participants.tsv --out DATA
    python benchmarks/segment_ixi.py --data DATA --work runs/segment_ixi

Every row sees the same test subjects, and pretraining sees none of them. Rows are
trained with 5, 20 and all labelled scans, for as many steps. Runs that are finished are
kept, so that the command goes on where it stopped. Writes `segment_ixi.json` and prints
the tables of RESULTS.md. --steps and --pretrain-steps shrink it; on a GPU leave them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import Report, facts, table, write
from ml_collections import ConfigDict

from brainjax.configuration import load_config
from brainjax.evaluate.metrics import Metric, paired_difference
from brainjax.evaluate.segmentation import MEAN, Row, read_rows, summarise
from brainjax.infer.evaluation import evaluate_run
from brainjax.train.finetune import finetune
from brainjax.train.folder import read_json
from brainjax.train.pretrain import pretrain

CONFIGS = Path(__file__).parents[1] / "configs"
UNET, SCRATCH, PRETRAINED = "U-Net", "ViT from scratch", "pretrained ViT"
ROWS = {
    UNET: [],
    SCRATCH: ["--config.segmenter.name=unetr", "--config.weights=random"],
    PRETRAINED: ["--config.segmenter.name=unetr", "--config.weights=pretrained"],
}
"""Trained rows: overrides of configs/segment_ixi.py."""


def main() -> None:
    options = parse()
    data = [f"--config.data.path={options.data}"]
    encoder = options.work / "pretrain"
    needs_encoder = set(options.rows) & {SCRATCH, PRETRAINED}
    if needs_encoder and not (encoder / "summary.json").exists():
        words = [*data, f"--config.train.steps={options.pretrain_steps}"]
        words.append(f"--config.train.batch={options.pretrain_batch}")
        pretrain(load_config(CONFIGS / "ixi_pretrain_vit.py", words), encoder)
    scores: dict[tuple[str, int], list[Row]] = {}
    runs: list[Report] = []
    for count in options.counts:
        for name in options.rows:
            words = [*data, *ROWS[name], f"--config.data.train_subjects={count}"]
            words.append(f"--config.train.steps={options.steps}")
            words.append(f"--config.train.save_every={max(options.steps // 4, 1)}")
            if name != UNET:
                words.append(f"--config.init={encoder}")
            run = options.work / f"{name.replace(' ', '_')}_{count or 'all'}"
            scores[name, count], facts_of_run = train(run, words, options.feature_size)
            runs.append({"row": name, "train_subjects": count, **facts_of_run})
            show(scores, options)
    sizes = {"steps": options.steps, "feature_size": options.feature_size}
    report = {**facts(), **sizes, "runs": runs, "rows": tables(scores)}
    write(report, options.work / "segment_ixi.json")


def train(run: Path, words: list[str], feature_size: int) -> tuple[list[Row], Report]:
    """Trains and scores a run, unless that is done; gives its rows, and its cost."""
    if not (run / "summary.json").exists():
        config = load_config(CONFIGS / "segment_ixi.py", words)
        with config.unlocked():
            if "--config.segmenter.name=unetr" in words:
                config.segmenter = ConfigDict(
                    {"name": "unetr", "feature_size": feature_size}
                )
        finetune(config, run)
    if not (run / "structures.csv").exists():
        evaluate_run(run)
    found = read_json(run / "summary.json")
    kept = ("train_scans", "parameters", "seconds", "best_step", "device")
    return read_rows(run / "structures.csv"), {name: found[name] for name in kept}


def show(scores: dict[tuple[str, int], list[Row]], options: argparse.Namespace) -> None:
    """Prints what is known so far, in Markdown."""
    lines = []
    for count in options.counts:
        cells = [written(scores, name, count) for name in options.rows]
        lines.append([count or "all", *cells])
    print(table(["labelled scans", *options.rows], lines), flush=True)
    name, count = max(scores, key=lambda key: mean_dice(scores[key]).value)
    found = summarise(scores[name, count])
    lines = [
        [structure, cell(metrics["dice"]), *(f"{metrics[m].value:.2f}" for m in OTHERS)]
        for structure, metrics in found.items()
    ]
    print(f"\n{name}, {count or 'all'} scans, n = {found[MEAN]['dice'].n}:")
    print(table(["structure", "Dice", *OTHERS.values()], lines), flush=True)


OTHERS = {"hd95_mm": "HD95, mm", "assd_mm": "surface distance, mm"}


def written(scores: dict[tuple[str, int], list[Row]], name: str, count: int) -> str:
    """Writes a cell: the mean Dice, and how much better than from scratch it is."""
    if (name, count) not in scores:
        return ""
    text = cell(mean_dice(scores[name, count]))
    if name == PRETRAINED and (SCRATCH, count) in scores:
        gain = gained(scores[name, count], scores[SCRATCH, count])
        within = f"{gain.low:+.3f} to {gain.high:+.3f}"
        text += f"; minus scratch {gain.value:+.3f} ({within})"
    return text


def cell(metric: Metric) -> str:
    """Writes a Dice with its interval."""
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"


def mean_dice(rows: list[Row]) -> Metric:
    """Gives the mean over structures and scans."""
    return summarise(rows)[MEAN]["dice"]


def gained(rows: list[Row], others: list[Row]) -> Metric:
    """Gives how much higher the first's Dice is, paired by subject."""
    ones, twos = by_subject(rows), by_subject(others)
    subjects = sorted(set(ones) & set(twos))
    first, second = ([found[s] for s in subjects] for found in (ones, twos))
    return paired_difference(np.array(first), np.array(second), subjects)


def by_subject(rows: list[Row]) -> dict[str, float]:
    """Gives every subject's mean Dice over its structures."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.subject, []).append(row.scores.dice)
    return {subject: float(np.nanmean(values)) for subject, values in found.items()}


def tables(scores: dict[tuple[str, int], list[Row]]) -> list[dict[str, Any]]:
    """Gives every number with its interval, for the report."""
    return [
        {
            "row": name,
            "train_subjects": count,
            "structures": {
                structure: {m: metric._asdict() for m, metric in metrics.items()}
                for structure, metrics in summarise(rows).items()
            },
        }
        for (name, count), rows in scores.items()
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--work", type=Path, default=Path("runs/segment_ixi"))
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    add("--counts", nargs="+", type=int, default=[5, 20, 0], help="0: all")
    add("--steps", type=int, default=2000)
    add("--feature-size", type=int, default=32, help="of the ViT's decoder")
    add("--pretrain-steps", type=int, default=1000)
    add("--pretrain-batch", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
