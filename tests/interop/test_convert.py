"""Foreign checkpoints as runs: every key accounted for, every statement checked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.interop import (
    convert,
    make_statement,
    read_checkpoint,
    show_conversion,
)
from brainjax.interop.files import open_tensors, write_torch
from brainjax.interop.origins import BRAINIAC_VIT, ORIGINS, guess_origin
from brainjax.interop.recognise import recognise
from brainjax.train.restore import load_run
from tests.interop.foreign import (
    RESNET,
    TINY,
    UNETR,
    base,
    foreign,
    head,
    lightning,
)

SIX = {"recipe": "canonical", "spacing": 6.0}
"""A recipe whose volumes are 32 cubed, as the tiny networks take them."""


HEADS = {"settings": ["heads=3"]}
"""Which no file tells, but for the usual widths."""


def read(path, **words):
    return read_checkpoint(path, make_statement(**{**SIX, **HEADS, **words}))


def counts(conversion):
    statuses = [row.status for row in conversion.rows]
    return {status: statuses.count(status) for status in set(statuses)}


def test_a_base_file_becomes_an_encoder(tmp_path):
    found = read(base(tmp_path / "base.ckpt"), origin="brainiac_v2")
    assert found.run.kind == "encoder"
    assert found.run.network["encoder"]["pool"] == "first_token"
    assert found.run.view == (32, 32, 32)
    assert found.run.task is None
    assert found.run.recipe.shape == (32, 32, 32)
    theirs = foreign("vit", TINY)["blocks.1.mlp.linear1.weight"]
    ours = found.run.params["encoder"]["blocks"]["mlp1"]["kernel"][1]
    np.testing.assert_array_equal(ours, theirs.T)
    # MONAI's newest keys of cross attention are the only ones that have no use.
    assert {row.note for row in found.rows if row.status == "ignored"}
    assert all("cross_attn" in row.key for row in found.rows if row.status == "ignored")


def test_lightning_keeps_every_array_twice(tmp_path):
    found = read(lightning(tmp_path / "age.ckpt"), origin="brainiac_v2")
    assert found.run.kind == "finetune"
    assert found.run.network["outputs"] == 1
    assert "norm" not in found.run.params["head"]
    ignored = [row for row in found.rows if row.status == "ignored"]
    copies = [
        row for row in ignored if row.key.startswith(("backbone.", "classifier."))
    ]
    used = [row for row in copies if "cross_attn" not in row.key]
    assert len(used) > 10
    assert all(row.note.startswith("equal copy of model.") for row in used)


def test_a_copy_with_other_values_is_named(tmp_path):
    arrays = foreign("vit", TINY, "model.backbone.backbone.")
    arrays |= foreign("vit", TINY, "backbone.backbone.")
    arrays["backbone.backbone.norm.bias"] = np.ones(48, np.float32)
    write_torch(tmp_path / "two.ckpt", arrays)
    found = read(tmp_path / "two.ckpt", origin="brainiac_v2")
    (row,) = [r for r in found.rows if r.key == "backbone.backbone.norm.bias"]
    assert row.status == "ignored"
    assert "with other values" in row.note


def test_a_segmentation_file_has_an_unused_encoder(tmp_path):
    arrays = foreign("unetr", UNETR, "model.unetr.")
    arrays |= foreign("vit", UNETR["encoder"], "model.vit.")
    write_torch(tmp_path / "seg.ckpt", arrays)
    found = read(tmp_path / "seg.ckpt", origin="brainiac_v2")
    assert found.run.kind == "segmentation"
    assert found.run.network["encoder"]["pool"] == "first_token"
    notes = {r.key: r.note for r in found.rows}
    # The names differ below the prefix, so the made-up weights do, too.
    assert "other values" in notes["model.vit.norm.weight"]


def test_a_v1_file_is_recognised_and_its_bilinear_layer_is_left(tmp_path):
    arrays = foreign("resnet", RESNET, "backbone.backbone.")
    arrays |= head(128, 1, "")
    arrays["bilinear_pooling.weight"] = np.zeros((2, 3, 3), np.float32)
    arrays["bilinear_pooling.bias"] = np.zeros(2, np.float32)
    write_torch(tmp_path / "v1.pt", arrays, container="model_state_dict")
    found = read(tmp_path / "v1.pt", inputs=2, settings=[])
    assert found.origin == "brainiac_v1"
    assert found.run.network["encoder"]["stem_stride"] == 2
    assert found.run.network["inputs"] == 2
    notes = {r.key: r.note for r in found.rows}
    assert "never read" in notes["bilinear_pooling.weight"]


def test_a_stride_that_no_file_tells_must_be_stated(tmp_path):
    write_torch(tmp_path / "r.pt", foreign("resnet", RESNET))
    with pytest.raises(InputRefusedError, match="stem's stride is not in the file"):
        read(tmp_path / "r.pt", shape=32, settings=[])
    assert read(tmp_path / "r.pt", shape=32, origin="monai", settings=[]).run.view == (
        32,
        32,
        32,
    )
    stated = read(
        tmp_path / "r.pt", shape=32, origin="monai", settings=["stem_stride=2"]
    )
    assert stated.run.network["encoder"]["stem_stride"] == 2
    with pytest.raises(InputRefusedError, match="convert it with --shape"):
        read(tmp_path / "r.pt", origin="monai", settings=[])


def spoil(arrays, **changes):
    for key, change in changes.items():
        name = key.replace("__", ".")
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change
    return arrays


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm__bias": None}, r"norm.bias \[48\]: not there; nearest.*MONAI ViT"),
        ({"norm__bias": np.ones(47)}, r"norm.bias \[47\]: wanted \[48\]"),
        ({"extra__weight": np.ones(3)}, r"extra.weight \[3\]: has no place"),
    ],
)
def test_one_key_unaccounted_for_refuses_the_file(tmp_path, changes, message):
    write_torch(tmp_path / "bad.pt", spoil(foreign("vit", TINY), **changes))
    with pytest.raises(InputRefusedError, match=message) as refused:
        read(tmp_path / "bad.pt", origin="monai")
    assert "\n" not in str(refused.value)


def test_keys_can_be_left_out_on_request(tmp_path):
    arrays = spoil(foreign("vit", TINY), momentum__queue=np.ones(3))
    write_torch(tmp_path / "moco.pt", arrays)
    found = read(tmp_path / "moco.pt", origin="monai", ignore=["momentum.*"])
    (row,) = [r for r in found.rows if r.key == "momentum.queue"]
    assert row == ("momentum.queue", (3,), "ignored", "left out by --ignore")


def test_an_origin_has_its_own_sizes(tmp_path):
    write_torch(tmp_path / "r18.pt", foreign("resnet", {**RESNET, "depth": 18}))
    with pytest.raises(InputRefusedError, match="wanted depth 50, as BrainIAC v1"):
        read(tmp_path / "r18.pt", origin="brainiac_v1", settings=[])


def test_of_several_networks_one_is_chosen(tmp_path):
    arrays = foreign("vit", TINY, "student.") | foreign("vit", TINY, "teacher.")
    write_torch(tmp_path / "dino.pt", arrays)
    with pytest.raises(InputRefusedError, match=r"'student\.', 'teacher\.'.*--prefix"):
        read(tmp_path / "dino.pt", origin="monai")
    found = read(tmp_path / "dino.pt", origin="monai", prefix="teacher.")
    assert counts(found)["ignored"] >= counts(found)["mapped"]


def test_another_networks_file_names_the_nearest_layout(tmp_path):
    write_torch(tmp_path / "unet.pt", {"model.0.conv.unit0.weight": np.ones((3, 3))})
    with pytest.raises(InputRefusedError, match="nearest layout"):
        read(tmp_path / "unet.pt")


def test_one_logit_and_two_names_are_a_probability(tmp_path):
    path = lightning(tmp_path / "idh.ckpt", twin=False)
    words = {"task": "classification", "target": "idh", "classes": "wildtype,mutant"}
    raw = read(path, origin="brainiac_v2").run.params["head"]["linear"]
    run = read(path, origin="brainiac_v2", **words).run
    assert run.task is not None
    assert run.task.classes == ("wildtype", "mutant")
    features = np.linspace(-1, 1, 48, dtype=np.float32)[None]
    logit = features @ np.asarray(raw["kernel"]) + np.asarray(raw["bias"])
    linear = run.params["head"]["linear"]
    two = features @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])
    wanted = 1 / (1 + np.exp(-logit[0, 0]))
    np.testing.assert_allclose(run.task.probabilities(two)[0, 1], wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"task": "regression", "target": "age"}, "--unit: wanted that of age"),
        (
            {"task": "regression", "target": "age", "unit": "years"},
            "head of 1 output .*got 4",
        ),
        (
            {"task": "classification", "target": "s", "classes": "a,b"},
            "wanted 4 --classes",
        ),
        (
            {"task": "classification", "target": "s", "classes": "a,a"},
            "different names",
        ),
        ({"classes": "a,b"}, "--classes: wanted --task"),
        ({"recipe": None}, "--spacing: wanted --recipe"),
        ({"shape": 100_000}, "--shape: wanted at most 1024"),
        ({"settings": ["heads=0"]}, "heads: wanted a whole number of 1"),
        ({"origin": "medicalnet"}, "wanted a file of MedicalNet"),
        ({"origin": "brainiac"}, "wanted one of brainiac_v2"),
        ({"settings": ["shape"]}, "wanted key=value"),
        ({"settings": ["shape=no"]}, "shape: wanted one or three"),
        ({"settings": ["heads=five"]}, "got five"),
        ({"settings": ["heads=5"]}, "heads 5 does not divide width 48"),
        ({"settings": ["poool=mean"]}, "has no poool; did you mean pool"),
        ({"inputs": 0}, "--inputs: wanted a whole number of 1"),
        ({"recipe": "brainiac_v2", "spacing": None}, r"\(32, 32, 32\).*\(96, 96, 96\)"),
    ],
)
def test_statements_that_do_not_fit_are_refused(tmp_path, words, message):
    path = lightning(tmp_path / "sequence.ckpt", outputs=4, twin=False)
    with pytest.raises(InputRefusedError, match=message):
        read(path, **{"origin": "brainiac_v2", **words})


def test_heads_that_no_file_tells_must_be_stated(tmp_path):
    with pytest.raises(InputRefusedError, match="--set 'heads=12'"):
        read(base(tmp_path / "base.ckpt"), origin="brainiac_v2", settings=[])


def test_a_layer_inside_the_network_is_never_beside_it(tmp_path):
    arrays = foreign("vit", TINY, "backbone.")
    arrays["backbone.blocks.0.attn.val_proj.weight"] = np.ones(3, np.float32)
    arrays["projector.0.weight"] = np.ones(3, np.float32)
    write_torch(tmp_path / "other.ckpt", arrays)
    with pytest.raises(InputRefusedError, match=r"1 of \d+ keys .*val_proj"):
        read(tmp_path / "other.ckpt", origin="brainiac_v2")


def test_a_head_left_out_on_request_is_not_there(tmp_path):
    path = lightning(tmp_path / "age.ckpt", twin=False)
    found = read(path, origin="brainiac_v2", ignore=["*classifier*"])
    assert found.run.kind == "encoder"


def test_what_lies_beside_the_weights_is_the_trainings_or_refused(tmp_path):
    file = open_tensors(base(tmp_path / "both.ckpt"))
    aside = {"left out": ["optimizer_states", "decoder"]}
    file = replace(file, facts={**file.facts, **aside})
    words = {"origin": "brainiac_v2", "settings": {"heads": 3}}
    with pytest.raises(InputRefusedError, match=r"decoder \[\]: beside the weights"):
        recognise(file, **words)
    rows = recognise(file, **words, ignore=["decoder"]).rows
    assert rows[-2].note == "of the training, beside the weights"


@pytest.mark.parametrize(
    ("layout", "keywords", "prefix", "wanted"),
    [
        ("resnet", {"depth": 50, "channels": 1}, "module.", "stride is not in the"),
        ("resnet", {"depth": 18, "channels": 1}, "encoder.", "stride is not in the"),
        ("vit", {**BRAINIAC_VIT, "class_token": True}, "backbone.", "monai"),
        ("vit", {**BRAINIAC_VIT, "shape": (128,) * 3}, "backbone.", "monai"),
        ("vit", BRAINIAC_VIT, "model.backbone.backbone.", "brainiac_v2"),
        ("vit", BRAINIAC_VIT, "", "monai"),
    ],
)
def test_an_origin_is_guessed_only_where_one_is_meant(layout, keywords, prefix, wanted):
    if wanted in ORIGINS:
        assert guess_origin(layout, keywords, prefix, {}) == wanted
        return
    with pytest.raises(InputRefusedError, match=wanted):
        guess_origin(layout, {**keywords, "shortcut_bias": True}, prefix, {})


def test_a_files_words_are_no_markup(tmp_path, capsys):
    arrays = foreign("vit", TINY, "backbone.")
    arrays["loss.[/bold].weight"] = np.ones(3, np.float32)
    write_torch(tmp_path / "[red].ckpt", arrays)
    show_conversion(read(tmp_path / "[red].ckpt", origin="brainiac_v2"))
    shown = capsys.readouterr().out
    assert "loss.[/bold].weight" in shown
    assert "[red].ckpt" in shown


def test_a_recipe_that_nobody_knows_must_be_stated(tmp_path):
    path = base(tmp_path / "vit.pt", prefix="")
    with pytest.raises(InputRefusedError, match="wanted --recipe"):
        read_checkpoint(path, make_statement(**HEADS))


def test_a_decoder_beside_the_encoder_is_left(tmp_path):
    arrays = foreign("segresnet", {"init_filters": 2, "blocks": (1, 1)}, "encoder.")
    arrays["up_layers.0.upsample.weight"] = np.ones((4, 2, 2, 2, 2), np.float32)
    write_torch(tmp_path / "ds.pt", arrays)
    found = read(tmp_path / "ds.pt", shape=32, settings=[])
    assert found.rows[-1].note.startswith("decoder of SegResNetDS")
    arrays = foreign("resnet", RESNET, "module.")
    arrays["module.conv_seg.0.weight"] = np.ones(3, np.float32)
    write_torch(tmp_path / "seg.pt", arrays)
    found = read(tmp_path / "seg.pt", origin="medicalnet", shape=32, settings=[])
    assert found.rows[-1].note == "MedicalNet's segmentation head"


def test_convert_writes_a_run_once(tmp_path):
    path = lightning(tmp_path / "age.ckpt", twin=False)
    words = {"task": "regression", "target": "age", "unit": "months"}
    stated = make_statement(**SIX, **HEADS, origin="brainiac_v2", **words)
    found = convert(path, tmp_path / "run", stated)
    run = load_run(tmp_path / "run")
    assert run.kind == "finetune"
    assert run.task == found.run.task
    assert run.task.unit == "months"
    assert run.checkpoint == found.run.checkpoint
    told = json.loads((tmp_path / "run" / "conversion.json").read_text())
    assert len(told["keys"]) == len(found.rows)
    for tree, read_back in ((found.run.params, run.params),):
        flat = np.concatenate([np.ravel(a) for a in _leaves(tree)])
        again = np.concatenate([np.ravel(a) for a in _leaves(read_back)])
        np.testing.assert_array_equal(flat, again)
    with pytest.raises(InputRefusedError, match="wanted a new or empty folder"):
        convert(path, tmp_path / "run", stated)
    # A call that was killed leaves what the next one clears away.
    (tmp_path / ".again.half" / "checkpoints").mkdir(parents=True)
    assert convert(path, tmp_path / "again", stated).run.checkpoint == run.checkpoint
    assert load_run(tmp_path / "again").checkpoint == run.checkpoint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "age.ckpt", "run"]


def test_resizing_while_converting(tmp_path):
    path = base(tmp_path / "base.ckpt")
    found = read(path, origin="brainiac_v2", shape=48, spacing=4.0)
    assert found.run.view == (48, 48, 48)
    assert found.run.params["encoder"]["positions"].shape == (1, 27, 48)


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)
