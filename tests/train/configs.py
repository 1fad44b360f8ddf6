"""Configs small enough for a test: 8 tokens, two blocks, a few steps."""

from pathlib import Path

from ml_collections import ConfigDict

from brainjax.configuration import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


def tiny_words(data: Path, *overrides: str) -> list[str]:
    """What makes configs/pretrain_vit_b.py tiny, as the command line takes it."""
    return [
        f"--config.data.path={data}",
        "--config.view=24,24,24",
        "--config.data.source=resident",
        "--config.split.val=0.2",
        "--config.split.test=0.25",
        "--config.augment.crop=0.5,1.0",
        "--config.encoder.patch=12",
        "--config.encoder.heads=3",
        "--config.encoder.dtype=float32",
        "--config.probe.targets=age,sex",
        "--config.encoder.width=24",
        "--config.encoder.depth=2",
        "--config.projector.hidden=32",
        "--config.projector.out=16",
        "--config.optimizer.peak=0.0001",
        "--config.optimizer.warmup=2",
        "--config.train.steps=6",
        "--config.train.batch=4",
        "--config.train.log_every=1",
        "--config.train.save_every=2",
        "--config.probe.every=3",
        *overrides,
    ]


def tiny_pretraining(data: Path, *overrides: str) -> ConfigDict:
    return load_config(CONFIGS / "pretrain_vit_b.py", tiny_words(data, *overrides))


def tiny_finetuning(data: Path, init: Path | str, *overrides: str) -> ConfigDict:
    return load_config(
        CONFIGS / "quickstart_age.py",
        [
            f"--config.init={init}",
            "--config.split.val=0.2",
            f"--config.data.path={data}",
            "--config.data.train_subjects=8",
            "--config.optimizer.warmup=2",
            "--config.train.steps=6",
            "--config.train.batch=4",
            "--config.train.log_every=1",
            "--config.train.save_every=2",
            *overrides,
        ],
    )
