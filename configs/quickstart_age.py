"""Brain age on a few labelled phantoms, from the quickstart's encoder.

Run:      brainjax finetune --config configs/quickstart_age.py --workdir RUN
Scratch:  add --config.weights=random and another --workdir
Cost:     about 45 seconds on two CPU cores
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = "runs/quickstart/pretrain"  # a pretraining run, or "" with `encoder`
    config.weights = "pretrained"  # or "random": the same network from scratch
    config.mode = "whole"  # or "frozen": only the head learns
    config.view = ()  # as in `init`
    config.encoder = ConfigDict()  # as in `init`
    config.data = ConfigDict({"path": "runs/quickstart/prepared", "train_subjects": 24})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.25, "stratify": "", "folds": 0, "fold": 0}
    )
    config.task = ConfigDict({"name": "regression", "target": "age", "unit": "years"})
    config.augment = ConfigDict({"crop": (0.8, 1.0)})
    config.head = ConfigDict({"dropout": 0.2})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 3e-4, "warmup": 20, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 200,
            "batch": 16,
            "log_every": 10,
            "save_every": 20,  # steps between two validations
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
