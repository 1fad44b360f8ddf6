"""What pretraining is worth on IXI: brain age and sex, five folds by subject.

Data:     as `python benchmarks/brain_age.py --ixi IXI --work runs/ixi` leaves them:
          runs/ixi/prepared, and an encoder of each fold's training subjects in
          runs/ixi/pretrain_0 ... pretrain_4
Run:      brainjax study --config configs/studies/ixi.py --workdir runs/ixi/study
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.keep = False  # the folders of fine-tuning runs
    config.data = ConfigDict({"path": "runs/ixi/prepared"})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.0, "stratify": "age", "folds": 5}
    )
    config.tasks = ConfigDict(
        {
            "age": {"name": "regression", "target": "age", "unit": "years"},
            "sex": {"name": "classification", "target": "sex"},
        }
    )
    config.inits = ConfigDict(
        {
            "pretrained": {"kind": "run", "path": "runs/ixi/pretrain_{fold}"},
            "scratch": {"kind": "scratch", "like": "pretrained"},
            "small_cnn": {
                "kind": "encoder",
                "encoder": {"name": "plain_cnn"},
                "view": (48, 48, 48),
                "optimizer": {"peak": 2e-3},
            },
            "clinical": {"kind": "clinical", "columns": ("age", "sex")},
        }
    )
    config.blocks = ConfigDict(
        {
            "frozen": {
                "tasks": (),  # all of them
                "inits": ("pretrained", "scratch", "clinical"),
                "ways": ("linear", "frozen"),
                "per_class": (5,),
                "draws": 20,
                "fractions": (10, 25, 50, 100),
                "repeats": 5,
            },
            "whole": {
                "tasks": (),
                "inits": ("pretrained", "scratch", "small_cnn"),
                "ways": ("whole",),
                "per_class": (),
                "draws": 1,
                "fractions": (100,),
                "repeats": 1,
            },
        }
    )
    config.frozen = ConfigDict({"steps": 300, "peak": 1e-2, "weight_decay": 0.05})
    config.finetune = ConfigDict(
        {
            "augment": {"crop": (0.9, 1.0)},
            "head": {"dropout": 0.2},
            "optimizer": {
                "peak": 1e-3,
                "warmup": 20,
                "weight_decay": 0.05,
                "clip": 1.0,
            },
            "train": {"steps": 300, "batch": 16, "log_every": 50},
        }
    )
    return config
