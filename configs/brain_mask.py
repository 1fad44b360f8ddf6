"""The brain in any head scan at 2 mm, whole volume, learnt on contrasts made up.

Data:     brainjax prepare IXI --label-maps dlmuse --recipe raw_head --spacing 2
          --fov-mm 192 224 192 --out data
Run:      brainjax finetune --config configs/brain_mask.py --workdir RUN
Then:     twice more, with --config.weights=pretrained and --config.init= the run before
          - --config.train.steps=1800 --config.optimizer.peak=1e-3
            --config.synthesis.probability=0.5 --config.augment.noise=0.05
            --config.augment.bias=0.3 --config.augment.blur=1.0
          - --config.train.steps=600 --config.optimizer.peak=7e-4
            --config.synthesis.probability=0.35 --config.augment.noise=0.03
            --config.augment.bias=0.3 --config.augment.blur=0.7
            --config.augment.rotate=15 --config.augment.scale=0.1
            --config.augment.stretch=0.05
Ships:    brainjax export RUN --to brain_mask --out brainjax/volume/weights
Cost:     4,400 steps x 1.15 s = 85 minutes on two cores
Expected: Dice 0.971 on 29 held-out IXI heads; 0.955 and 0.968 after the first two
"""

from ml_collections import ConfigDict

from brainjax.augment.synthesis import DLMUSE_TISSUES


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = ""
    config.weights = "random"
    config.mode = "whole"
    config.view = ()  # the whole field of view, 96 x 112 x 96
    config.segmenter = ConfigDict(
        {
            "name": "unet",
            "widths": (24, 40, 64, 80),
            "blocks": (1, 1, 1, 1),
            "decoder_blocks": (1, 1, 1),
            "head": 0,  # as the weights that ship
        }
    )
    config.data = ConfigDict({"path": "data", "sequences": (), "train_subjects": 0})
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.2, "stratify": "", "folds": 0, "fold": 0}
    )
    config.task = ConfigDict(
        {
            "name": "segmentation",
            "classes": ConfigDict({"brain": "any"}),
            "tissues": tuple(DLMUSE_TISSUES.items()),  # what synthesis paints apart
            "loss": "dice_ce",
        }
    )
    config.augment = ConfigDict(
        {
            "rotate": 20.0,
            "scale": 0.15,
            "stretch": 0.08,
            "translate": 0.08,
            "bias": 0.4,
            "blur": 1.2,
            "noise": 0.08,
        }
    )
    config.synthesis = ConfigDict({"probability": 0.75})  # empty: real scans only
    config.ema = 0.995  # of the weights that answer; 0 for none
    config.optimizer = ConfigDict(
        {"name": "adamw", "peak": 2e-3, "warmup": 50, "weight_decay": 0.01, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 2000,
            "batch": 1,
            "log_every": 10,
            "save_every": 200,  # steps between two validations
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
