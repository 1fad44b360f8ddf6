"""Contrast within a scan, as CT-FM does: its crops are each other's negatives.

Run:      brainjax pretrain --config configs/within_scan.py --workdir runs/within
Data:     brainjax prepare SCANS --spacing 4 --out runs/prepared
Cost:     15 crops x 2 views of every scan, where SimCLR takes 2 views
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (48, 48, 48)  # the encoder's input, in voxels
    config.data = ConfigDict(
        {
            "path": "runs/prepared",
            "source": "resident",  # in the host's memory; or "stream", "device"
        }
    )
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.1, "stratify": "", "folds": 0, "fold": 0}
    )
    config.augment = ConfigDict({"crop": (0.33, 1.0)})
    config.encoder = ConfigDict({"name": "cnn", "width": 24, "depth": 1})
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "within", "crops": 15, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 10, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 110,
            "batch": 4,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 10,
            "save_every": 100,
            "patience": 50,  # non-finite steps in a row before the run stops
        }
    )
    config.probe = ConfigDict({"targets": (), "every": 50})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
