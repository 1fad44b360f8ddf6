"""Alive after one year or not, from four sequences.

Run:      brainjax finetune --config configs/tasks/survival_one_year.py --workdir RUN
Table:    columns `survival_days` and `event` (1: died then, 0: last seen alive then)
Lost:     who was last seen alive within the year has no label; `survival` learns from
          these patients too
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = "runs/pretrain"  # a pretraining or converted run
    config.weights = "pretrained"  # or "random": the same network from scratch
    config.mode = "whole"  # or "frozen", "adapters"
    config.adapters = ConfigDict({"rank": 4})  # of mode "adapters"
    config.view = ()  # as in `init`
    config.encoder = ConfigDict()  # as in `init`
    config.data = ConfigDict(
        {
            "path": "data",
            "train_subjects": 0,  # all of them
            "train_fraction": 1.0,
            "train_per_class": 0,
            "draw": 0,  # which of the draws of few subjects
            "sequences": ("T1w", "T1CE", "T2w", "FLAIR"),  # any may be missing
            "sequence_dropout": 0.1,  # leaves one out in training now and then
            "balance": "",  # or "classes", "bins"
            "balance_after": 0,
        }
    )
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.2, "stratify": "event", "folds": 0, "fold": 0}
    )
    config.task = ConfigDict(
        {
            "name": "classification",
            "target": "survival_days",
            "event": "event",
            "horizon": 365.0,  # days; "yes": died by then
            "loss": "cross_entropy",  # or "focal"
            "gamma": 2.0,  # of the focal loss
            "balance": True,
        }
    )
    config.augment = ConfigDict({"crop": (0.9, 1.0)})
    config.head = ConfigDict(
        {"dropout": 0.2, "norm": True, "hidden": 0, "pool": "encoder"}
    )
    config.fusion = "mean"  # of sequences; or "attention", "concat"
    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "peak": 1e-3,
            "warmup": 20,
            "weight_decay": 0.05,
            "clip": 1.0,
            "layer_decay": 0.75,  # 1: every layer at the same rate
        }
    )
    config.train = ConfigDict(
        {
            "steps": 500,
            "batch": 16,
            "log_every": 10,
            "save_every": 25,  # steps between two validations
            "patience": 100,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
