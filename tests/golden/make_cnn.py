"""Writes what MONAI's convolutional encoders give, block by block, as fixtures.

Run by hand from the root of the repository, where PyTorch and MONAI are installed:
`python -m tests.golden.make_cnn`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tests.golden.weights import make_volumes, make_weights, sample

FOLDER = Path(__file__).parent


class Case(NamedTuple):
    """One network of MONAI and the input it is run on.

    Attributes:
        family: row of `ENCODERS`.
        side: voxels of the input along every axis.
        settings: of MONAI's constructor.
        keywords: of ours, that a file does not tell.
        depth: of a ResNet.
    """

    family: str
    side: int
    settings: Mapping[str, Any] = MappingProxyType({})
    keywords: Mapping[str, Any] = MappingProxyType({})
    depth: int = 0


STEM2 = {"conv1_t_stride": 2}
CASES = {
    "resnet10": Case("resnet", 32, depth=10),
    "resnet18": Case("resnet", 64, depth=18),
    "resnet34": Case("resnet", 32, {"n_input_channels": 2}, depth=34),
    "resnet50": Case("resnet", 64, depth=50),
    "resnet50_stride2": Case(
        "resnet", 64, {**STEM2, "bias_downsample": False}, {"stem_stride": 2}, 50
    ),
    "resnet18_shortcut_a": Case(
        "resnet",
        32,
        {**STEM2, "shortcut_type": "A", "no_max_pool": True},
        {"stem_stride": 2, "max_pool": False},
        18,
    ),
    # MONAI has no dilated network: its convolutions are changed to MedicalNet's.
    "resnet10_dilated": Case(
        "resnet",
        48,
        {**STEM2, "bias_downsample": False},
        {"stem_stride": 2, "dilated": True},
        10,
    ),
    "segresnet": Case("segresnet", 32, {"blocks_down": (1, 2, 2, 4, 4)}),
    "densenet121": Case("densenet", 64),
    "densenet_small": Case(
        "densenet", 33, {"growth_rate": 8, "block_config": (2, 3, 2)}
    ),
}


def build(case: Case):
    """Gives MONAI's network in evaluation mode, not yet our weights."""
    from monai.networks.nets import densenet, resnet, segresnet_ds

    if case.family == "segresnet":
        return segresnet_ds.SegResEncoder(**case.settings).eval()
    if case.family == "densenet":
        return densenet.DenseNet121(3, 1, 2, **case.settings).eval()
    make = getattr(resnet, f"resnet{case.depth}")
    settings = {"n_input_channels": 1, "feed_forward": False, **case.settings}
    network = make(spatial_dims=3, **settings).eval()
    if case.keywords.get("dilated"):
        dilate(network.layer3, 2)
        dilate(network.layer4, 4)
    return network


def dilate(stage, dilation: int) -> None:
    """Lets a stage dilate its 3x3x3 convolutions instead of halving."""
    for module in stage.modules():
        if hasattr(module, "kernel_size"):
            module.stride = (1, 1, 1)
            if module.kernel_size == (3, 3, 3):
                module.dilation = module.padding = (dilation,) * 3


def load_named_weights(network) -> dict[str, tuple[int, ...]]:
    """Gives a network the weights that its keys name; returns their shapes."""
    import torch

    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    weights = make_weights(shapes)
    network.load_state_dict({key: torch.tensor(w) for key, w in weights.items()})
    return shapes


def is_block(family: str, name: str) -> bool:
    """Whether a module's output is one of those compared."""
    parts = name.split(".")
    if family == "segresnet":
        return parts[0] == "layers" and parts[2:3] == ["blocks"] and len(parts) == 4
    if family == "densenet":
        layer = parts[-1].startswith("denselayer")
        return name in ("features.relu0", "features.norm5") or layer
    return name == "act" or (parts[0].startswith("layer") and len(parts) == 2)


def run_peer(network, family: str, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Gives every block's output `[b, x, y, z, channels]`, and "pooled"."""
    import torch

    found = {}

    def keep(name):
        def hook(module, inputs, output):
            # A copy: what follows may be an in-place ReLU.
            found[name] = output.movedim(1, -1).numpy().copy()

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in network.named_modules()
        if is_block(family, name)
    ]
    with torch.no_grad():
        network(torch.tensor(volumes).movedim(-1, 1).contiguous())
    for hook in hooks:
        hook.remove()
    if family == "densenet":
        found["features.norm5"] = np.maximum(found["features.norm5"], 0)
    last = list(found.values())[-1]
    found["pooled"] = last.astype(np.float64).mean(axis=(1, 2, 3)).astype(np.float32)
    return found


def make_fixture(name: str, case: Case) -> None:
    network = build(case)
    shapes = load_named_weights(network)
    channels = case.settings.get("n_input_channels", 1)
    volumes = make_volumes(1, (case.side, case.side, case.side), channels=channels)
    found = run_peer(network, case.family, volumes)
    about = {
        "family": case.family,
        "side": case.side,
        "keywords": dict(case.keywords),
        "blocks": list(found),
        "shapes": shapes,
    }
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        about=np.array(json.dumps(about)),
        samples=np.stack([sample(array) for array in found.values()]),
        scales=np.array([array.std() for array in found.values()], np.float32),
    )
    print(name, len(found), "blocks", (FOLDER / f"{name}.npz").stat().st_size, "bytes")


if __name__ == "__main__":
    for name, case in CASES.items():
        make_fixture(name, case)
