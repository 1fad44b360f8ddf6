"""What pretraining is worth on phantoms, on two CPU cores: every task, few labels.

Cohort:   brainjax phantom --subjects 800 --out runs/study/phantoms --spacing 4 \\
              --arms healthy mci glioma stroke --sequences T1w T2w FLAIR T1CE
          brainjax prepare runs/study/phantoms --spacing 4 --out runs/study/prepared \\
              --labels runs/study/phantoms/participants.tsv
          brainjax pretrain --config configs/studies/phantom_pretrain.py \\
              --workdir runs/study/pretrain
Run:      brainjax study --config configs/studies/phantom_small.py \\
              --workdir runs/study/small
Subjects: those pretrained on are in no part of the split
"""

from ml_collections import ConfigDict

FOUR = ("T1w", "T1CE", "T2w", "FLAIR")


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.keep = False  # the folders of fine-tuning runs
    config.data = ConfigDict({"path": "runs/study/prepared"})
    config.split = ConfigDict(
        {"seed": 1, "val": 0.1, "test": 0.4, "stratify": "arm", "folds": 0}
    )
    number, words, time = "regression", "classification", "survival_days"
    config.tasks = ConfigDict(
        {
            "age": {"name": number, "target": "age", "sequences": ("T1w",)},
            "sex": {"name": words, "target": "sex", "sequences": ("T1w",)},
            "sequence": {"name": words, "target": "sequence"},
            "mci": {"name": words, "target": "mci", "sequences": ("T1w",)},
            "idh": {"name": words, "target": "idh", "sequences": ("FLAIR", "T1CE")},
            # A mutation shows where the two sequences differ, which their mean hides.
            "idh_concat": {
                "name": words,
                "target": "idh",
                "sequences": ("FLAIR", "T1CE"),
                "fusion": "concat",
            },
            "survival": {
                "name": "survival",
                "target": time,
                "event": "event",
                "sequences": FOUR,
            },
            "survival_one_year": {
                "name": words,
                "target": time,
                "event": "event",
                "horizon": 365.0,
                "sequences": FOUR,
            },
            "stroke_days": {
                "name": number,
                "target": "stroke_days",
                "unit": "days",
                "sequences": ("T1w", "T2w", "FLAIR"),
            },
        }
    )
    config.inits = ConfigDict(
        {
            "pretrained": {"kind": "run", "path": "runs/study/pretrain"},
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
                "ways": ("linear", "frozen"),
                "per_class": (1, 5),
                "draws": 20,
                "inits": ("pretrained", "scratch", "clinical"),
                "fractions": (10, 100),
                "repeats": 20,
            },
            "whole": {
                "ways": ("whole",),
                "tasks": ("age", "sequence", "idh"),
                "inits": ("pretrained", "scratch", "small_cnn"),
                "per_class": (5,),
                "draws": 5,
                "fractions": (10, 100),
                "repeats": 3,
            },
        }
    )
    config.frozen = ConfigDict({"steps": 300, "peak": 1e-2, "weight_decay": 0.05})
    config.finetune = ConfigDict(
        {
            "augment": {"crop": (0.9, 1.0)},
            "head": {"dropout": 0.2},
            "optimizer": {
                "peak": 5e-4,
                "warmup": 10,
                "weight_decay": 0.05,
                "clip": 1.0,
            },
            "train": {"steps": 60, "batch": 16, "log_every": 20},
        }
    )
    return config
