"""SimCLR on phantoms of all arms and sequences: a ViT of 64 tokens, for two CPU cores.

Cohort:   as in configs/studies/phantom_small.py
Run:      brainjax pretrain --config configs/studies/phantom_pretrain.py \\
              --workdir runs/study/pretrain
Subjects: 40 % of them; the study uses the others
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (48, 48, 48)
    config.data = ConfigDict({"path": "runs/study/prepared", "source": "resident"})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.5, "stratify": "arm", "folds": 0, "fold": 0}
    )
    # Mild crops: in minutes of training a part is not yet recognised as the whole.
    config.augment = ConfigDict({"crop": (0.8, 1.0)})
    config.encoder = ConfigDict(
        {"name": "vit", "patch": 12, "width": 192, "depth": 6, "heads": 3}
    )
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "between", "crops": 1, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 40, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 600,
            "batch": 64,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 10,
            "save_every": 50,
            "patience": 50,
        }
    )
    config.probe = ConfigDict(
        {
            "targets": ("age", "sex", "sequence", "mci", "idh", "stroke_days"),
            "every": 200,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
