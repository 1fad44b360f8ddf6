"""Seven structures of a head at 2 mm, whole volume, from IXI with DLMUSE's regions.

Data:     brainjax prepare IXI --label-maps dlmuse --recipe raw_head --spacing 2
          --fov-mm 192 224 192 --labels IXI/participants.tsv --out data
Run:      brainjax finetune --config configs/segment_ixi.py --workdir RUN
ViT:      --config.segmenter.name=unetr, with config.init = a run of
          configs/ixi_pretrain_vit.py and --config.weights=pretrained (random: the same
          network from scratch)
Cost:     600 steps x 2.1 s = 21 minutes on two cores
Expected: Dice 0.867 (n = 29, 103 scans); 0.79 after 200 steps, still rising
"""

from ml_collections import ConfigDict

CORTEX = (*(31, 32, 47, 48), *range(100, 208))  # amygdala and hippocampus among it
BASAL_GANGLIA = (23, 30, 36, 37, *range(55, 61), 75, 76)  # thalamus among it
STRUCTURES = (
    ("grey_matter", CORTEX),
    ("basal_ganglia", BASAL_GANGLIA),
    ("white_matter", tuple(range(81, 96))),
    ("ventricles", (4, 11, 49, 50, 51, 52)),
    ("cerebellum", (38, 39, 40, 41, 71, 72, 73)),
    ("brain_stem", (35, 61, 62, 69)),  # ventral diencephalon and chiasm among it
    ("other_fluid", (1, 46, 63, 64)),
)


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.init = ""  # a pretraining run, for weights = "pretrained"
    config.weights = "random"
    config.mode = "whole"  # or "frozen": only the decoder learns
    config.view = ()  # the whole field of view; smaller sides are crops of it
    config.segmenter = ConfigDict({"name": "unet", "head": 128, "deep": 0})
    config.data = ConfigDict(
        {
            "path": "data",
            "sequences": (),
            "sequence_dropout": 0.0,
            "train_subjects": 0,  # all of them
            "draw": 0,
        }
    )
    config.split = ConfigDict(
        {"seed": 0, "val": 0.1, "test": 0.2, "stratify": "", "folds": 0, "fold": 0}
    )
    config.task = ConfigDict(
        {
            "name": "segmentation",
            "classes": STRUCTURES,
            "overlapping": False,
            "ignore": (),
            "loss": "dice_ce",  # or "dice", "dice_focal", "dice_ce_boundary"
            "smoothing": 0.0,
            "weight": "",  # a column with the weight of each scan
        }
    )
    config.augment = ConfigDict(
        {
            "rotate": 15.0,
            "scale": 0.1,
            "stretch": 0.05,
            "translate": 0.04,
            "foreground": 0.0,  # of crops: how often one is round a structure
        }
    )
    config.synthesis = ConfigDict()  # real scans only
    config.ema = 0.99  # of the weights that answer; 0 for none
    config.optimizer = ConfigDict(
        {"name": "muon", "peak": 1e-2, "warmup": 20, "weight_decay": 0.01, "clip": 1.0}
    )
    config.train = ConfigDict(
        {
            "steps": 600,
            "batch": 1,
            "log_every": 10,
            "save_every": 100,  # steps between two validations
            "patience": 50,
        }
    )
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    return config
