"""Brain age from BrainIAC's encoder: a converted checkpoint, fine-tuned whole.

Convert:  brainjax convert BrainIAC.ckpt --out runs/brainiac
Prepare:  brainjax prepare SCANS --labels TABLE --recipe brainiac_v2 --out data
Run:      brainjax finetune --config configs/brainiac_age.py --workdir runs/brainiac_age
Give it back: brainjax export runs/brainiac_age --to torch --naming brainiac --out DIR
Other recipe: convert with --recipe canonical --spacing 2, and prepare the same way.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = "runs/brainiac"  # what `brainjax convert` wrote
    config.weights = "pretrained"  # or "random": the same network from scratch
    config.mode = "whole"  # or "frozen": only the head learns
    config.view = ()  # as in `init`
    config.encoder = ConfigDict()  # as in `init`
    config.data = ConfigDict({"path": "data", "train_subjects": 0})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.2, "stratify": "age", "folds": 0, "fold": 0}
    )
    config.task = ConfigDict({"name": "regression", "target": "age", "unit": "years"})
    # The recipe keeps axes as stored: which of them to mirror cannot be known.
    config.augment = ConfigDict({"crop": (0.9, 1.0), "flip": 0.0})
    # BrainIAC's head: dropout and one linear layer.
    config.head = ConfigDict({"dropout": 0.2, "norm": False})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-4, "warmup": 20, "weight_decay": 1e-4, "clip": 1.0}
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
