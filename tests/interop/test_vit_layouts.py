"""ViT and UNETR equal MONAI's (and nidl's) at every block; layouts go both ways."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.interop.layout import gather, scatter
from brainjax.interop.layouts import nidl, unetr, vit
from brainjax.models.positions import sincos_positions
from tests.golden.our_vits import (
    LAYOUTS,
    complete,
    fill,
    golden_weights,
    read_golden,
    run_ours,
)
from tests.golden.weights import make_volumes, sample

VITS = ("vit_conv", "vit_class", "vit_perceptron", "vit_perceptron_two", "vit_sincos")
UNETRS = ("unetr_small", "unetr_four")
NIDLS = ("nidl_registers", "nidl_patches")
SMALL = (*VITS, *UNETRS, *NIDLS)
NOTED = [
    (name, version)
    for name in ("vit_class", "unetr_small")
    for version in ("1.3.2", "1.4.0", "1.5.2", "1.6.1")
]


@pytest.mark.parametrize(
    "name",
    [*SMALL, "vit_base", pytest.param("unetr_full", marks=pytest.mark.slow)],
)
def test_every_block_equals_its_peer(name):
    golden = read_golden(name)
    keywords = complete(golden.family, golden.shapes, golden.keywords)
    graphdef, trees = fill(golden.family, keywords, golden_weights(golden))
    volumes = make_volumes(1, golden.shape, channels=golden.channels)
    got = run_ours(golden.family, graphdef, trees["params"], volumes)
    compared = zip(golden.blocks, got, golden.samples, golden.scales, strict=True)
    for block, ours, theirs, scale in compared:
        assert np.abs(sample(ours) - theirs).max() / scale < 1e-4, block


@pytest.mark.parametrize("name", SMALL)
def test_round_trip_is_bitwise_and_in_their_order(name):
    golden = read_golden(name)
    layout = LAYOUTS[golden.family]
    keywords = complete(golden.family, golden.shapes, golden.keywords)
    weights = golden_weights(golden)
    entries = layout.entries(keywords)
    back = scatter(entries, gather(entries, weights.__getitem__))
    kept = [key for key in golden.shapes if key in back]
    assert list(back) == kept
    for key, array in back.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, weights[key])
    for key in golden.shapes.keys() - back.keys():
        head = any(key.startswith(f"{name}.") for name in layout.heads)
        assert head or layout.ignore(key, keywords), key


def shapes_of(name: str, version: str) -> dict[str, tuple[int, ...]]:
    golden = read_golden(name)
    return golden.versions.get(version, golden.shapes)


@pytest.mark.parametrize(("name", "version"), NOTED)
def test_every_key_of_every_version_is_accounted_for(name, version):
    golden, shapes = read_golden(name), shapes_of(name, version)
    layout = LAYOUTS[golden.family]
    keywords = complete(golden.family, shapes, golden.keywords)
    assert keywords == complete(golden.family, golden.shapes, golden.keywords)
    wanted = {entry.theirs: entry.shape for entry in layout.entries(keywords)}
    assert wanted.items() <= shapes.items()
    heads = [key for key in shapes if key.startswith("classification_head.")]
    for key in shapes.keys() - wanted.keys() - set(heads):
        assert "cross attention" in layout.ignore(key, keywords)
    extras = layout.extras(keywords, version[:3])
    found = wanted | {key: array.shape for key, array in extras.items()}
    assert found == {key: shape for key, shape in shapes.items() if key not in heads}
    assert {array.dtype for array in extras.values()} <= {np.dtype(np.float32)}


def test_newest_flavour_is_the_default_and_others_are_refused():
    keywords = {"width": 48, "depth": 2, "shape": 32}
    assert vit.extras(keywords, "").keys() == vit.extras(keywords, "1.6").keys()
    with pytest.raises(InputRefusedError, match=r"1\.6.*got '1\.2'"):
        vit.extras(keywords, "1.2")


def test_sincos_positions_are_given_back_as_an_extra():
    golden = read_golden("vit_sincos")
    keywords = complete("vit", golden.shapes, golden.keywords)
    assert vit.POSITIONS not in {entry.theirs for entry in vit.entries(keywords)}
    assert "formula" in vit.ignore(vit.POSITIONS, keywords)
    assert vit.ignore(vit.POSITIONS, {**keywords, "positions": "learned"}) == ""
    got = vit.extras(keywords, "1.3")
    np.testing.assert_array_equal(
        got[vit.POSITIONS], sincos_positions((2, 2, 2), keywords["width"])
    )


def test_a_config_of_sizes_has_entries_too():
    entries = vit.entries({"size": "Ti", "patch": 8, "shape": 32, "depth": 1})
    shapes = {entry.theirs: entry.shape for entry in entries}
    assert shapes[vit.POSITIONS] == (1, 64, 192)
    assert shapes["blocks.0.attn.qkv.weight"] == (576, 192)
    assert max(entry.layer or 0 for entry in entries) == 0


def test_heads_are_told_by_the_usual_widths_alone():
    golden = read_golden("vit_base")
    assert vit.infer(golden.shapes)["heads"] == 12
    assert "heads" not in vit.infer(read_golden("vit_conv").shapes)


def without(shapes: dict, *starts: str) -> dict:
    return {key: s for key, s in shapes.items() if not key.startswith(starts)}


def test_what_a_vit_file_does_not_tell_is_left_out():
    shapes = read_golden("vit_class").shapes
    assert "shape" not in vit.infer(shapes)
    perceptron = vit.infer(read_golden("vit_perceptron_two").shapes)
    assert not {"patch", "channels", "shape"} & perceptron.keys()
    assert perceptron["projection"] == "perceptron"


def test_files_that_are_no_vit_are_refused():
    shapes = read_golden("vit_conv").shapes
    bad = [
        (without(shapes, "blocks.0."), r"numbered from 0, got \[1\]"),
        (without(shapes, "blocks."), r"numbered from 0, got \[\]"),
        (without(shapes, "norm."), r"norm.weight: wanted .*got none"),
        (without(shapes, vit.POSITIONS), "position_embeddings: wanted .*got none"),
        ({**shapes, f"{vit.CONV}.weight": (48, 1, 16, 16)}, r"got \[48, 1, 16, 16\]"),
    ]
    for wrong, message in bad:
        with pytest.raises(InputRefusedError, match=message):
            vit.infer(wrong)
    with pytest.raises(InputRefusedError, match=r"no registers.*got \('registers',\)"):
        vit.entries({"shape": 32, "registers": 2})


def test_unetrs_that_are_not_ours_are_refused():
    shapes = read_golden("unetr_small").shapes
    bad = [
        ({**shapes, "encoder1.layer.norm1.weight": (4,)}, "norm_name='instance'"),
        ({**shapes, "encoder2.blocks.0.conv.weight": (8, 8, 2, 2, 2)}, "conv_block"),
        (without(shapes, "decoder2.conv_block.conv3"), "res_block=True"),
        (without(shapes, "vit."), "wanted blocks numbered from 0"),
    ]
    for wrong, message in bad:
        with pytest.raises(InputRefusedError, match=message):
            unetr.infer(wrong)


def test_unetr_takes_the_encoder_of_a_run_by_its_name():
    golden = read_golden("unetr_small")
    keywords = complete("unetr", golden.shapes, golden.keywords)
    named = {**keywords, "encoder": {**keywords["encoder"], "name": "vit"}}
    assert unetr.entries(named) == unetr.entries(keywords)
    paths = {entry.ours[0] for entry in unetr.entries(named)[:10]}
    assert paths == {"encoder"}


def test_nidl_with_layers_that_we_have_not_is_refused():
    shapes = read_golden("nidl_registers").shapes
    told = nidl.infer(shapes)
    assert (told["registers"], told["prefix_positions"]) == (3, True)
    assert nidl.infer(read_golden("nidl_patches").shapes)["prefix_positions"] is False
    for key, message in (
        ("norm_pre.weight", "pre_norm"),
        ("fc_norm.weight", "fc_norm"),
        ("blocks.0.attn.q_norm.weight", "qk_norm"),
        ("blocks.0.mlp.norm.weight", "inside a block"),
    ):
        with pytest.raises(InputRefusedError, match=message):
            nidl.infer({**shapes, key: (48,)})
    with pytest.raises(InputRefusedError, match="sin-cos positions from none"):
        nidl.infer(without(shapes, "pos_embed"))
    odd = {**shapes, "pos_embed": (1, 10, 48)}
    assert "shape" not in nidl.infer(odd)
