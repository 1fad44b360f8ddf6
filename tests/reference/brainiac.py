"""BrainIAC's networks and files as its released source lays them out, random weights.

Written from its facts: names of modules, sizes, containers. Needs torch and monai.
"""

from pathlib import Path

import numpy as np


def backbone(version: str):
    """Gives a module with `.backbone`, whose call gives features [b, d]."""
    import torch
    from monai.networks.nets import ViT, resnet50

    class V2(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = ViT(1, (96, 96, 96), (16, 16, 16), save_attn=True)

        def forward(self, volumes):
            return self.backbone(volumes)[0][:, 0]

    class V1(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = resnet50(pretrained=False, n_input_channels=1)
            self.backbone.conv1 = torch.nn.Conv3d(1, 64, 7, 2, 3, bias=False)
            self.backbone.fc = torch.nn.Identity()

        def forward(self, volumes):
            return self.backbone(volumes)

    torch.manual_seed(7)
    module = V2() if version == "v2" else V1()
    _trained(module)
    return module.eval()


def downstream(version: str, outputs: int):
    """Gives the model of a task: features averaged over scans, then one linear map."""
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.fc = torch.nn.Linear(width, outputs)

        def forward(self, features):
            return self.fc(features)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = backbone(version)
            self.classifier = Classifier(768 if version == "v2" else 2048)
            self.dropout = torch.nn.Dropout(0.2)

        def forward(self, scans):
            features = torch.stack([self.backbone(scan) for scan in scans])
            return self.classifier(self.dropout(features.mean(0)))

    return Model().eval()


def segmentation():
    """Gives the segmentation model: an unused ViT, and the UNETR that runs."""
    import torch
    from monai.networks.nets import UNETR

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = backbone("v2").backbone
            self.unetr = UNETR(1, 1, (96, 96, 96), 16, norm_name="instance")

        def forward(self, volumes):
            return self.unetr(volumes)

    return Model().eval()


def lightning(model, path: Path, *, parts: bool = True) -> Path:
    """Saves a model as Lightning does: with what it was made of, and its training."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if parts:
                self.backbone, self.classifier = model.backbone, model.classifier
            self.model = model

    facts = {
        "epoch": 12,
        "global_step": 480,
        "pytorch-lightning_version": "2.3.3",
        "hyper_parameters": {"train": {"freeze": "no"}, "data": {"size": [96] * 3}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    torch.save({**facts, "state_dict": Module().state_dict()}, path)
    return path


def v2_volume(path: Path):
    """Gives what BrainIAC v2 feeds its ViT: [1, 1, 96, 96, 96]."""
    from monai import transforms

    chain = transforms.Compose(
        [
            transforms.LoadImaged(keys=["image"]),
            transforms.EnsureChannelFirstd(keys=["image"]),
            transforms.Resized(
                keys=["image"], spatial_size=(96, 96, 96), mode="trilinear"
            ),
            transforms.NormalizeIntensityd(
                keys=["image"], nonzero=True, channel_wise=True
            ),
        ]
    )
    return chain({"image": str(path)})["image"][None].as_tensor()


def v1_volume(path: Path):
    """Gives what BrainIAC v1 feeds its ResNet: [1, 1, 128, 128, 128]."""
    import nibabel as nib
    import torch
    from monai import transforms

    stored = torch.tensor(nib.load(path).get_fdata(), dtype=torch.float32)[None]
    sample = transforms.Resized(keys=["image"], spatial_size=(128,) * 3)(
        {"image": stored}
    )
    sample = transforms.ScaleIntensityd(keys=["image"], minv=0.0, maxv=1.0)(sample)
    return torch.as_tensor(np.asarray(sample["image"]))[None]


def _trained(module) -> None:
    """Moves a fresh network away from its start: norms and statistics of their own."""
    import torch

    with torch.no_grad():
        for name, values in module.state_dict().items():
            if name.endswith("running_var"):
                values.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                values.normal_(0, 0.1)
            elif values.ndim == 1 and values.is_floating_point():
                values.add_(torch.randn_like(values) * 0.1)
