"""The whole grid on phantoms, for a GPU: all ways, 5 to 100 % of the labels, K = 1, 5.

Cohort:   as in phantom_small.py with --subjects 2000 --spacing 2, in runs/full
          brainjax pretrain --config configs/pretrain_vit_b.py --workdir RUN \\
              --config.data.path=runs/full/prepared --config.split.test=0.5
Run:      brainjax study --config configs/studies/phantom_full.py --workdir STUDY \\
              --config.inits.pretrained.path=RUN
Others:   a converted checkpoint is one more entry of `inits`, kind "run"; where it has
          a recipe of its own, `data` names the same scans prepared by it
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from brainjax.configuration import load_config

SMALL = Path(__file__).with_name("phantom_small.py")


def get_config() -> ConfigDict:
    config: Any = load_config(SMALL).unlock()
    config.data.path = "runs/full/prepared"
    config.inits.pretrained.path = "runs/full/pretrain"
    config.inits.small_cnn.view = (96, 96, 96)
    fractions = (5, 10, 25, 50, 100)
    for name in ("frozen", "whole"):
        config.blocks[name].update(
            {
                "tasks": (),  # all of them
                "per_class": (1, 5),
                "draws": 20,
                "fractions": fractions,
                "repeats": 5,
            }
        )
    config.finetune.train.update({"steps": 500, "batch": 32})
    config.finetune.optimizer.update({"peak": 1e-4, "warmup": 50})
    return config
