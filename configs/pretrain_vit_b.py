"""SimCLR, ViT-B/16 at 96 cubed, 2 mm: the encoder of BrainIAC's size, on one large GPU.

Run:      brainjax pretrain --config configs/pretrain_vit_b.py --workdir runs/vit_b
Data:     brainjax prepare SCANS --spacing 1.5 --out runs/prepared
Cost:     6.4 million scan passes (200 epochs of 32,000 scans), 239 GFLOP each; what
          that takes on a GPU is worked out in docs/scaling.md and not yet measured
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
            "peak": 1.5e-4,
            "warmup": 1200,
            "weight_decay": 0.1,
            "clip": 1.0,
        }
    )
    config.train = ConfigDict(
        {
            "steps": 25_000,
            "batch": 256,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 20,
            "save_every": 1000,
            "patience": 50,  # non-finite steps in a row before the run stops
        }
    )
    # Targets are columns of the --labels table; empty switches the probe off.
    config.probe = ConfigDict({"targets": ("sequence",), "every": 1000})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
