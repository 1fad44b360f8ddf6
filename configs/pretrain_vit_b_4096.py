"""SimCLR, ViT-B/16 at 96 cubed with 4,096 pairs on one GPU, by gradient caching.

Run:      brainjax pretrain --config configs/pretrain_vit_b_4096.py --workdir runs/large
Data:     brainjax prepare SCANS --spacing 1.5 --out runs/prepared
Cost:     a third more FLOPs than configs/pretrain_vit_b.py: every scan is embedded
          twice; not yet measured on a GPU
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (96, 96, 96)
    # "device" holds the scans in the accelerators' memory, 2.1 MB each at 1.5 mm;
    # "stream" reads the shards as they are needed.
    config.data = ConfigDict({"path": "runs/prepared", "source": "device"})
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
    # Peak after the rule of MoCo v3 (Chen et al. 2021): 1.5e-4 x batch / 256.
    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "peak": 2.4e-3,
            "warmup": 100,
            "weight_decay": 0.1,
            "clip": 1.0,
        }
    )
    config.train = ConfigDict(
        {
            "steps": 1_600,
            "batch": 4096,
            "micro_batch": 128,  # scans embedded at a time: a step's memory is theirs
            "log_every": 5,
            "save_every": 100,
            "patience": 50,  # non-finite steps in a row before the run stops
        }
    )
    # Targets are columns of the --labels table; empty switches the probe off.
    config.probe = ConfigDict({"targets": ("sequence",), "every": 100})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
