"""Brain age on IXI, small CNN from scratch on brains aligned to the template, 4 mm.

Run:      brainjax finetune --config configs/ixi_age_aligned.py \\
              --workdir runs/ixi/aligned_age_0
All folds, and the data: python benchmarks/ixi.py --ixi IXI --work runs/ixi
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
    config.data = ConfigDict({"path": "runs/ixi/aligned_4mm", "train_subjects": 0})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.0, "stratify": "age", "folds": 5, "fold": 0}
    )
    config.task = ConfigDict(
        {"name": "regression", "target": "age", "unit": "years", "loss": "l1"}
    )
    # Aligned brains differ little in place and size; what differs is to be seen.
    config.augment = ConfigDict(
        {"crop": (1.0, 1.0), "rotate": 3.0, "blur_probability": 0.0}
    )
    config.head = ConfigDict({"dropout": 0.2})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 2e-3, "warmup": 20, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 400,
            "batch": 16,
            "log_every": 20,
            "save_every": 50,  # steps between two validations
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
