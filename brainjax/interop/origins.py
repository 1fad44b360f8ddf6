"""Where a checkpoint comes from: what its file cannot tell, and its input recipe.

Parameters do not tell a convolution's stride, how tokens were pooled, or how a scan
was prepared. An origin states these, from the source of whoever trained the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from brainjax.errors import InputRefusedError


@dataclass(frozen=True)
class Origin:
    """One source of checkpoints.

    Attributes:
        name: for readers.
        keywords: by row of `LAYOUTS`, constructor keywords that a file cannot tell.
        recipe: how its scans were prepared, a row of `volume.RECIPES`; "" where that
            is not known, or not one of ours.
    """

    name: str
    keywords: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str = ""


ORIGINS = {
    "brainiac_v2": Origin(
        "BrainIAC v2 (ViT-B/16)",
        {"vit": {"pool": "first_token"}, "unetr": {"pool": "first_token"}},
        "brainiac_v2",
    ),
    "brainiac_v1": Origin(
        "BrainIAC v1 (ResNet-50)",
        {"resnet": {"stem_stride": 2, "shape": 128}},
        "brainiac_v1",
    ),
    "medicalnet": Origin("MedicalNet", {"resnet": {"stem_stride": 2, "dilated": True}}),
    "neuro_simclr": Origin("3D-Neuro-SimCLR", {"resnet": {"stem_stride": 1}}),
    "ct_fm": Origin("CT-FM", {"segresnet": {}}),
    "nidl": Origin("nidl", {"nidl": {}}),
    "monai": Origin(
        "MONAI, constructors' defaults",
        {"vit": {}, "unetr": {}, "resnet": {"stem_stride": 1}}
        | {"segresnet": {}, "densenet": {}},
    ),
}
"""Origins by the name `--origin` takes."""


def guess_origin(layout: str, keywords: Mapping[str, Any], prefix: str) -> str:
    """Gives the one row of `ORIGINS` that a file can be, by its layout and prefix.

    layout: row of `LAYOUTS`; keywords: what the file tells; prefix: of its keys.

    Raises:
        InputRefusedError: it can be several that differ in what the file cannot tell.
    """
    backbone = "backbone." in prefix
    if layout == "vit":
        base = (keywords.get("width"), keywords.get("depth")) == (768, 12)
        return "brainiac_v2" if backbone and base else "monai"
    if layout == "unetr":
        return "brainiac_v2" if prefix.endswith("unetr.") else "monai"
    if layout == "resnet":
        return _guess_resnet(keywords, prefix, backbone)
    if layout == "segresnet":
        return "ct_fm" if backbone else "monai"
    return "nidl" if layout == "nidl" else "monai"


def _guess_resnet(keywords: Mapping[str, Any], prefix: str, backbone: bool) -> str:
    module = prefix.endswith("module.")
    biased = keywords.get("shortcut_bias", False)
    if keywords["depth"] == 50 and biased and (backbone or module):
        return "brainiac_v1"
    if module and not biased:
        return "medicalnet"
    if keywords["depth"] == 18 and prefix.endswith("encoder."):
        return "neuro_simclr"
    raise InputRefusedError(
        f"a ResNet-{keywords['depth']} under {prefix or 'no prefix'!r}: its stem's "
        "stride is not in the file; state --origin monai, brainiac_v1, medicalnet or "
        "neuro_simclr, or --set stem_stride=1 or 2"
    )
