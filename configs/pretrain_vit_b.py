"""SimCLR, ViT-B/16 at 96 cubed, 2 mm: the encoder of BrainIAC's size.

Run:      brainjax pretrain --config configs/pretrain_vit_b.py --workdir runs/vit_b
Data:     brainjax prepare SCANS --spacing 2 --out runs/prepared
Cost:     200 epochs of your scans; 239 GFLOP a scan (two views, forward and backward)
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (96, 96, 96)
    config.data = ConfigDict({"path": "runs/prepared", "source": "stream"})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.25, "stratify": "", "folds": 0, "fold": 0}
    )
    config.augment = ConfigDict({"crop": (0.33, 1.0)})
    config.encoder = ConfigDict(
        {
            "name": "vit",
            "patch": 16,
            "width": 768,
            "depth": 12,
            "heads": 12,
            "dtype": "bfloat16",
            "remat": "none",
        }
    )
    config.projector = ConfigDict({"hidden": 2048, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "between", "crops": 1, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "peak": 1e-4,
            "warmup": 2000,
            "weight_decay": 0.05,
            "clip": 1.0,
        }
    )
    config.train = ConfigDict(
        {
            "steps": 100_000,
            "batch": 64,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 50,
            "save_every": 1000,
            "patience": 50,  # non-finite steps in a row before the run stops
        }
    )
    # Targets are columns of the --labels table; empty switches the probe off.
    config.probe = ConfigDict({"targets": ("sequence",), "every": 2000})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
