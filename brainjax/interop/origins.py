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
        needs: keywords that a file of it has, where a layout holds others, too.
        recipe: how its scans were prepared, a row of `volume.RECIPES`; "" where that
            is not known, or not one of ours.
        checked: whether answers were compared with its own code, or with what that
            code is built of; else its source was read.
    """

    name: str
    keywords: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str = ""
    checked: bool = False
    needs: Mapping[str, Any] = field(default_factory=dict)


ORIGINS = {
    "brainiac_v2": Origin(
        "BrainIAC v2 (ViT-B/16)",
        {"vit": {"pool": "first_token"}, "unetr": {"pool": "first_token"}},
        "brainiac_v2",
        checked=True,
    ),
    "brainiac_v1": Origin(
        "BrainIAC v1 (ResNet-50)",
        {"resnet": {"stem_stride": 2, "shape": 128}},
        "brainiac_v1",
        checked=True,
        needs={"depth": 50},
    ),
    "medicalnet": Origin("MedicalNet", {"resnet": {"stem_stride": 2, "dilated": True}}),
    "neuro_simclr": Origin(
        "3D-Neuro-SimCLR", {"resnet": {"stem_stride": 1}}, needs={"depth": 18}
    ),
    "ct_fm": Origin("CT-FM", {"segresnet": {}}),
    "nidl": Origin("nidl", {"nidl": {}}, checked=True),
    "monai": Origin(
        "MONAI, constructors' defaults",
        {"vit": {}, "unetr": {}, "resnet": {"stem_stride": 1}}
        | {"segresnet": {}, "densenet": {}},
        checked=True,
    ),
}
"""Origins by the name `--origin` takes."""

BRAINIAC_VIT = {
    "width": 768,
    "depth": 12,
    "channels": 1,
    "patch": (16, 16, 16),
    "shape": (96, 96, 96),
}


def guess_origin(
    layout: str,
    keywords: Mapping[str, Any],
    prefix: str,
    settings: Mapping[str, Any],
) -> str:
    """Gives the row of `ORIGINS` that a file is of, where only one can be meant.

    layout: row of `LAYOUTS`; keywords: what the file tells; prefix: of its keys;
    settings: what was stated.

    Raises:
        InputRefusedError: it can be several that differ in what the file cannot tell.
    """
    backbone = prefix.endswith("backbone.")
    if layout == "vit":
        return "brainiac_v2" if backbone and _is_brainiac(keywords) else "monai"
    if layout == "unetr":
        fits = keywords["feature_size"] == 16 and _is_brainiac(keywords["encoder"])
        return "brainiac_v2" if fits and prefix.endswith("unetr.") else "monai"
    if layout == "resnet":
        return _guess_resnet(keywords, prefix, settings)
    return "nidl" if layout == "nidl" else "monai"


def _is_brainiac(keywords: Mapping[str, Any]) -> bool:
    fits = all(keywords.get(key) == value for key, value in BRAINIAC_VIT.items())
    plain = not keywords.get("class_token") and "projection" not in keywords
    return fits and plain


def _guess_resnet(
    keywords: Mapping[str, Any], prefix: str, settings: Mapping[str, Any]
) -> str:
    if "stem_stride" in settings:
        return "monai"
    one = keywords["depth"] == 50 and keywords["channels"] == 1
    if one and keywords.get("shortcut_bias") and prefix.endswith("backbone."):
        return "brainiac_v1"
    raise InputRefusedError(
        f"a ResNet-{keywords['depth']}: its stem's stride is not in the file; state "
        "--origin monai, brainiac_v1, medicalnet or neuro_simclr, or --set "
        "stem_stride=1 or 2 (and --shape and --recipe, but for brainiac_v1)"
    )
