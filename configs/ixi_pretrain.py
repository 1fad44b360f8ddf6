"""SimCLR on whole-head T1w of IXI at 4 mm: a small ViT, 216 tokens; one of five folds.

Run:      python benchmarks/brain_age.py --ixi IXI --work runs/ixi   (all folds, all rows)
One fold: brainjax pretrain --config configs/ixi_pretrain.py --workdir runs/ixi/pretrain_0
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
    config.augment = ConfigDict({"crop": (0.5, 1.0)})
    config.encoder = ConfigDict(
        {"name": "vit", "patch": 8, "width": 192, "depth": 6, "heads": 3}
    )
    config.projector = ConfigDict({"hidden": 512, "out": 128})
    config.loss = ConfigDict({"temperature": 0.1})
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 1e-3, "warmup": 40, "weight_decay": 0.05, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 300,
            "batch": 64,
            "log_every": 10,
            "save_every": 100,
            "patience": 50,
        }
    )
    config.probe = ConfigDict({"targets": ("age",), "every": 100})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
