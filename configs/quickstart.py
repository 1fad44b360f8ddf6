"""SimCLR on the phantom cohort: a residual CNN at 48 cubed, 4 mm.

Run:      brainjax pretrain --config configs/quickstart.py --workdir RUN
Cost:     about 3 minutes on two CPU cores
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (48, 48, 48)  # the encoder's input, in voxels
    config.data = ConfigDict(
        {
            "path": "runs/quickstart/prepared",
            "source": "resident",  # in the host's memory; or "stream", "device"
        }
    )
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.25, "stratify": "", "folds": 0, "fold": 0}
    )
    config.augment = ConfigDict({"crop": (0.8, 1.0)})
    config.encoder = ConfigDict({"name": "cnn", "width": 24, "depth": 1})
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "between", "crops": 1, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 10, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 110,
            "batch": 32,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 10,
            "save_every": 100,
            "patience": 50,  # non-finite steps in a row before the run stops
        }
    )
    config.probe = ConfigDict({"targets": ("age", "sex"), "every": 50})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
