"""Writes what MONAI's ViT and UNETR give for named weights, block by block.

Run by hand from the root of the repository, where PyTorch and MONAI are installed:
`python -m tests.golden.make_vit [FOLDER ...]`, each folder a MONAI of another version,
unpacked, whose keys are noted too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.golden.weights import make_volumes, make_weights, sample

FOLDER = Path(__file__).parent


class Case(NamedTuple):
    """One network of MONAI and the input it is run on.

    Attributes:
        family: "vit", "unetr" or "nidl".
        shape: voxels of the input.
        settings: of MONAI's constructor.
        keywords: of ours, for the ViT, that a file does not tell.
    """

    family: str
    shape: tuple[int, int, int]
    settings: dict[str, Any]
    keywords: dict[str, Any]

    @property
    def channels(self) -> int:
        return self.settings.get("in_channels", 1)


TINY = {"hidden_size": 48, "mlp_dim": 96, "num_heads": 3, "in_channels": 1}
TINY_VIT = {**TINY, "num_layers": 2, "patch_size": 16}
TINY_UNETR = {**TINY, "feature_size": 4, "out_channels": 2}
HEADS = {"heads": 3}
CUBE = (32, 32, 32)
LONG = (32, 16, 48)

CASES = {
    "vit_conv": Case("vit", CUBE, TINY_VIT, HEADS),
    "vit_class": Case(
        "vit",
        LONG,
        {**TINY_VIT, "in_channels": 2, "classification": True, "qkv_bias": True},
        {**HEADS, "shape": LONG},
    ),
    "vit_perceptron": Case(
        "vit", CUBE, {**TINY_VIT, "proj_type": "perceptron", "qkv_bias": True}, HEADS
    ),
    "vit_perceptron_two": Case(
        "vit",
        CUBE,
        {**TINY_VIT, "in_channels": 2, "proj_type": "perceptron"},
        {**HEADS, "channels": 2, "patch": 16, "shape": 32},
    ),
    "vit_sincos": Case(
        "vit",
        CUBE,
        {**TINY_VIT, "pos_embed_type": "sincos"},
        {**HEADS, "positions": "sincos"},
    ),
    "vit_base": Case("vit", (96, 96, 96), {"in_channels": 1, "patch_size": 16}, {}),
    "unetr_small": Case("unetr", CUBE, TINY_UNETR, HEADS),
    "unetr_four": Case(
        "unetr",
        LONG,
        {**TINY_UNETR, "in_channels": 4, "qkv_bias": True},
        {**HEADS, "shape": LONG},
    ),
    "unetr_full": Case(
        "unetr", (96, 96, 96), {"in_channels": 1, "out_channels": 1}, {}
    ),
}
NOTED = ("vit_class", "unetr_small")
"""The cases whose keys are noted for other versions too."""

SKIPS = ("encoder1", "encoder2", "encoder3", "encoder4")
JOINS = ("decoder5", "decoder4", "decoder3", "decoder2")


def build(case: Case):
    """Gives MONAI's network in evaluation mode, not yet our weights."""
    from monai.networks.nets import UNETR, ViT

    make = {"vit": ViT, "unetr": UNETR}[case.family]
    return make(img_size=case.shape, **case.settings).eval()


def load_named_weights(network) -> dict[str, tuple[int, ...]]:
    """Gives a network the weights that its keys name; returns their shapes.

    Positions that are no parameters but a formula stay.
    """
    import torch

    held = network.state_dict()
    shapes = {key: tuple(value.shape) for key, value in held.items()}
    weights = make_weights(shapes)
    state = {key: torch.tensor(weight) for key, weight in weights.items()}
    parameters = network.named_parameters()
    fixed = {key: held[key] for key, value in parameters if not value.requires_grad}
    network.load_state_dict({**state, **fixed})
    return shapes


def run_peer(network, family: str, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Gives every block's output, channels last, and what comes out.

    Of a ViT these are the patches' tokens and the class token, or else their mean.
    """
    import torch

    found = {}

    def keep(name):
        def hook(module, inputs, output):
            # A copy: what follows may be an in-place ReLU.
            found[name] = _channels_last(output).numpy().copy()

        return hook

    names = ("norm",) if family == "vit" else (*SKIPS, *JOINS)
    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        got = network(torch.tensor(volumes).movedim(-1, 1).contiguous())
    if family == "unetr":
        return {**found, "logits": _channels_last(got).numpy()}
    blocks = {f"block{i}": stream.numpy() for i, stream in enumerate(got[1])}
    if not hasattr(network, "cls_token"):
        tokens = found["norm"]
        return {**blocks, "tokens": tokens, "pooled": tokens.mean(axis=1)}
    tokens, pooled = found["norm"][:, 1:], found["norm"][:, 0]
    return {**blocks, "tokens": tokens, "pooled": pooled}


def _channels_last(tensor):
    return tensor.movedim(1, -1) if tensor.ndim == 5 else tensor


def make_fixture(
    name: str, case: Case, others: list[str], *, build=build, run_peer=run_peer
) -> None:
    network = build(case)
    shapes = load_named_weights(network)
    volumes = make_volumes(1, case.shape, channels=case.channels)
    found = run_peer(network, case.family, volumes)
    about = {
        "family": case.family,
        "shape": case.shape,
        "channels": case.channels,
        "keywords": case.keywords,
        "blocks": list(found),
        "shapes": shapes,
        "versions": dict(keys_of(name, folder) for folder in others if name in NOTED),
    }
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        about=np.array(json.dumps(about)),
        samples=np.stack([sample(array) for array in found.values()]),
        scales=np.array([array.std() for array in found.values()], np.float32),
    )
    print(name, len(found), "blocks", (FOLDER / f"{name}.npz").stat().st_size, "bytes")


def keys_of(name: str, folder: str) -> tuple[str, dict]:
    """Gives version and shapes by key of the MONAI in a folder."""
    paths = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.golden.make_vit", "--keys", name],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    version, shapes = json.loads(done.stdout.splitlines()[-1])
    return version, shapes


def print_keys(name: str) -> None:
    import monai

    held = build(CASES[name]).state_dict()
    shapes = {key: tuple(value.shape) for key, value in held.items()}
    print(json.dumps([monai.__version__, shapes]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--keys"]:
        print_keys(sys.argv[2])
    else:
        for name, case in CASES.items():
            make_fixture(name, case, sys.argv[1:])
