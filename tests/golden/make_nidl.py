"""Writes what nidl's VisionTransformer3D gives for named weights, block by block.

Run by hand from the root of the repository, where nidl 0.0.2 is installed (with timm):
`python -m tests.golden.make_nidl`.
"""

from typing import Any

import numpy as np

from tests.golden.make_vit import CUBE, HEADS, Case, make_fixture

TINY = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0}
REGISTERS = {**TINY, "reg_tokens": 3}

CASES = {
    "nidl_registers": Case("nidl", CUBE, REGISTERS, HEADS),
    "nidl_patches": Case(
        "nidl",
        CUBE,
        {**REGISTERS, "no_embed_class": True, "qkv_bias": False},
        HEADS,
    ),
}


def build(case: Case):
    """Gives nidl's network in evaluation mode, not yet our weights."""
    from nidl.volume.backbones.vit3d import VisionTransformer3D

    settings: dict[str, Any] = {"img_size": case.shape, **case.settings}
    return VisionTransformer3D(**settings).eval()


def run_peer(network, family: str, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Gives every block's output, the patches' tokens, and what is pooled."""
    import torch

    given = torch.tensor(volumes).movedim(-1, 1).contiguous()
    with torch.no_grad():
        numbers = range(len(network.blocks))
        last, streams = network.forward_intermediates(given, indices=list(numbers))
        pooled = network(given)
    blocks = {f"block{i}": stream.numpy() for i, stream in enumerate(streams)}
    tokens = last[:, network.num_prefix_tokens :].numpy()
    return {**blocks, "tokens": tokens, "pooled": pooled.numpy()}


if __name__ == "__main__":
    for name, case in CASES.items():
        make_fixture(name, case, [], build=build, run_peer=run_peer)
