"""SimCLR on whole-head T1w of IXI at 4 mm, a residual CNN; one fold of five.

Run:      brainjax pretrain --config configs/ixi_pretrain.py \\
              --workdir runs/ixi/pretrain_0
All folds and baselines: python benchmarks/brain_age.py --ixi IXI --work runs/ixi
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.view = (48, 48, 48)
    config.data = ConfigDict({"path": "runs/ixi/prepared", "source": "resident"})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.0, "stratify": "age", "folds": 5, "fold": 0}
    )
    # Mild crops: with a hundred scans and minutes of training, half of a head at a
    # random place is not yet recognised as its other half.
    config.augment = ConfigDict({"crop": (0.8, 1.0)})
    config.encoder = ConfigDict({"name": "cnn"})
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict(
        {"temperature": 0.1, "negatives": "between", "crops": 1, "form": "auto"}
    )
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 10, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 100,
            "batch": 32,
            "micro_batch": 0,  # scans embedded at a time; 0: all at once
            "log_every": 10,
            "save_every": 50,
            "patience": 50,
        }
    )
    config.probe = ConfigDict({"targets": ("age",), "every": 50})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
