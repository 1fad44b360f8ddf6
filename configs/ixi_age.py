"""Brain age on IXI in years, from the encoder of the same fold or from scratch.

Run:      brainjax finetune --config configs/ixi_age.py --workdir runs/ixi/age_0
All folds and baselines: python benchmarks/brain_age.py --ixi IXI --work runs/ixi
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = "runs/ixi/pretrain_0"
    config.weights = "pretrained"  # or "random": the same network from scratch
    config.mode = "whole"
    config.view = ()  # as in `init`
    config.encoder = ConfigDict()  # as in `init`
    config.data = ConfigDict({"path": "runs/ixi/prepared", "train_subjects": 0})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.0, "stratify": "age", "folds": 5, "fold": 0}
    )
    config.task = ConfigDict({"name": "regression", "target": "age", "unit": "years"})
    config.augment = ConfigDict({"crop": (0.9, 1.0)})
    config.head = ConfigDict({"dropout": 0.2})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 20, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 300,
            "batch": 16,
            "log_every": 10,
            "save_every": 25,  # steps between two validations
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
