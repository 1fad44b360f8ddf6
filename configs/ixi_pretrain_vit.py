"""SimCLR on whole-head T1w of IXI at 2 mm, a small ViT: the encoder for segment_ixi.py.

Data:     as for segment_ixi.py, whose test subjects it leaves out
Run:      brainjax pretrain --config configs/ixi_pretrain_vit.py --workdir RUN
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (96, 112, 96)
    config.data = ConfigDict({"path": "data", "source": "resident"})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.2, "stratify": "", "folds": 0, "fold": 0}
    )
    config.augment = ConfigDict({"crop": (0.8, 1.0)})
    config.encoder = ConfigDict(
        {"name": "vit", "patch": 16, "width": 192, "depth": 6, "heads": 3}
    )
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "between", "crops": 1, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 5e-4, "warmup": 10, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 1000,
            "batch": 32,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 10,
            "save_every": 50,
            "patience": 50,
        }
    )
    config.probe = ConfigDict({"targets": (), "every": 0})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
