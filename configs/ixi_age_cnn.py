"""Brain age on IXI by a plain five-layer CNN from scratch: the baseline to beat.

Run:      brainjax finetune --config configs/ixi_age_cnn.py --workdir runs/ixi/cnn_0
All folds and baselines: python benchmarks/brain_age.py --ixi IXI --work runs/ixi
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = ""
    config.weights = "random"
    config.mode = "whole"
    config.view = (48, 48, 48)
    config.encoder = ConfigDict({"name": "plain_cnn"})
    config.data = ConfigDict({"path": "runs/ixi/prepared", "train_subjects": 0})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.0, "stratify": "age", "folds": 5, "fold": 0}
    )
    config.task = ConfigDict({"name": "regression", "target": "age", "unit": "years"})
    config.augment = ConfigDict({"crop": (0.9, 1.0)})
    config.head = ConfigDict({"dropout": 0.2})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 2e-3, "warmup": 20, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 400,
            "batch": 16,
            "log_every": 10,
            "save_every": 25,
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
