"""Convolutional encoders equal MONAI's, block by block; their layouts go both ways."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import scatter
from brainjax.interop.layouts import LAYOUTS, densenet, resnet, segresnet
from tests.golden.our_cnns import fill, read_golden, run_ours
from tests.golden.weights import make_volumes, make_weights, sample

GOLDEN = [
    "resnet10",
    "resnet18",
    "resnet50_stride2",
    "resnet18_shortcut_a",
    "resnet10_dilated",
    "segresnet",
    "densenet_small",
]
LARGE = ["resnet34", "resnet50", "densenet121"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]


@pytest.mark.parametrize("name", [*GOLDEN, *SLOW])
def test_every_block_equals_monai(name):
    golden = read_golden(name)
    given = {"shape": golden.side, **golden.keywords}
    keywords, graphdef, trees = fill(LAYOUTS[golden.family], golden.shapes, given)
    volumes = make_volumes(
        1, (golden.side, golden.side, golden.side), channels=keywords["channels"]
    )
    got = np.stack([sample(array) for array in run_ours(graphdef, trees, volumes)])
    assert len(got) == len(golden.blocks)
    differences = np.abs(got - golden.samples).max(axis=1) / golden.scales
    worst = dict(zip(golden.blocks, differences, strict=True))
    assert {name: d for name, d in worst.items() if not d < 2e-5} == {}


@pytest.mark.parametrize("name", [*GOLDEN, *LARGE])
def test_every_key_is_ours_extra_or_a_head(name):
    golden = read_golden(name)
    layout = LAYOUTS[golden.family]
    keywords = {**layout.infer(golden.shapes), **golden.keywords}
    heads = {key for key in golden.shapes if key.startswith(layout.heads or "/")}
    ours = {entry.theirs: entry.shape for entry in layout.entries(keywords)}
    extras = {k: v.shape for k, v in layout.extras(keywords, "").items()}
    assert not set(ours) & set(extras)
    wanted = {k: shape for k, shape in golden.shapes.items() if k not in heads}
    assert {**ours, **extras} == wanted
    assert list(ours) == [key for key in wanted if key in ours]
    assert {layout.ignore(key, keywords) for key in extras} == {
        "a counter of training batches"
    }
    assert {layout.ignore(key, keywords) for key in ours} == {""}


@pytest.mark.parametrize("name", ["resnet10", "resnet18_shortcut_a", "densenet_small"])
def test_there_and_back_is_bitwise(name):
    golden = read_golden(name)
    layout = LAYOUTS[golden.family]
    keywords, _, trees = fill(layout, golden.shapes, golden.keywords)
    weights = make_weights(golden.shapes)
    back = scatter(layout.entries(keywords), trees)
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key], strict=True)


def test_a_file_tells_depth_channels_and_shortcut():
    found = {name: resnet.infer(read_golden(name).shapes) for name in GOLDEN[:4]}
    assert [one["depth"] for one in found.values()] == [10, 18, 50, 18]
    assert found["resnet50_stride2"]["shortcut_bias"] is False
    assert found["resnet18"]["shortcut_bias"] is True
    assert found["resnet18_shortcut_a"]["shortcut"] == "A"
    assert resnet.infer(read_golden("resnet34").shapes)["channels"] == 2
    assert segresnet.infer(read_golden("segresnet").shapes) == {
        "channels": 1,
        "init_filters": 32,
        "blocks": (1, 2, 2, 4, 4),
    }
    assert densenet.infer(read_golden("densenet121").shapes) == {
        "channels": 1,
        "init_filters": 64,
        "growth": 32,
        "blocks": (6, 12, 24, 16),
    }


REFUSED = [
    # A ResNet for images; a deeper one; a hole; no norm that we have.
    ("resnet10", {"conv1.weight": (64, 3, 7, 7)}, r"any, 7, 7, 7\], got \[64, 3, 7, 7"),
    (
        "resnet10",
        {"layer3.1.conv1.weight": (256, 256, 3, 3, 3)},
        r"depth 10, 18, 34, 50, got \(1, 1, 2, 1\) basic",
    ),
    ("resnet10", {"layer3.2.bn1.bias": (256,)}, r"from layer1\.0\., got .*layer3\.2"),
    ("segresnet", {"conv_init.weight": (32, 1, 3, 3, 1)}, r"3\], got \[32, 1, 3, 3, 1"),
    ("segresnet", {"layers.0.blocks.0.norm1.running_mean": None}, "wanted batch norms"),
    ("densenet_small", {"features.conv0.weight": None}, "conv0.weight: .*got none"),
    (
        "densenet_small",
        {"features.denseblock1.denselayer1.layers.conv1.weight": (16, 64, 1, 1, 1)},
        r"wanted \[32, 64, 1, 1, 1\], got \[16, 64",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_sizes_of_none_of_ours_are_refused(name, change, message):
    golden = read_golden(name)
    shapes = {k: v for k, v in (golden.shapes | change).items() if v is not None}
    with pytest.raises(InputRefusedError, match=message) as caught:
        LAYOUTS[golden.family].infer(shapes)
    assert "\n" not in str(caught.value)
