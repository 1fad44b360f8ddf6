"""Runs given back: the same values under foreign names, and back again bit for bit."""

import csv
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export as jax_export

from brainjax.cli import main
from brainjax.errors import InputRefusedError
from brainjax.infer import predict
from brainjax.interop import export, make_statement, read_checkpoint
from brainjax.interop.export import describe
from brainjax.interop.files import open_tensors, write_torch
from brainjax.interop.layouts import LAYOUTS
from brainjax.interop.stablehlo import make_program
from brainjax.interop.trees import flatten, unflatten
from brainjax.train.restore import plan_network, refuse_seen_subjects
from brainjax.volume import prepare_volume
from tests.golden.weights import make_weights
from tests.interop.foreign import RESNET, TINY, UNETR, foreign, lightning

SIX = {"recipe": "canonical", "spacing": 6.0}
SEGRESNET = {"init_filters": 2, "blocks": (1, 1, 1)}
DENSENET = {"init_filters": 4, "growth": 4, "blocks": (1, 1, 1, 1)}
NIDL = {**TINY, "class_token": True, "registers": 2, "prefix_positions": True}


def read(path, **words):
    return read_checkpoint(path, make_statement(**{**SIX, **words})).run


def downstream(tmp_path):
    words = {"task": "regression", "target": "age", "unit": "years"}
    words["settings"] = ["heads=3"]
    path = lightning(tmp_path / "age.ckpt", twin=False)
    return read(path, origin="brainiac_v2", **words)


def same(ours, theirs):
    ours, theirs = (
        flatten({"p": r.params, "s": r.batch_stats}) for r in (ours, theirs)
    )
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)


@pytest.mark.parametrize("naming", ["monai", "brainiac"])
@pytest.mark.parametrize("to", ["safetensors", "torch"])
def test_a_head_and_its_task_come_back_exactly(tmp_path, to, naming):
    run = downstream(tmp_path)
    paths = export(run, tmp_path / "out", to=to, naming=naming)
    assert len(paths) == {"monai": 2, "brainiac": 1}[naming]
    back = read_checkpoint(paths[0]).run
    same(run, back)
    assert (back.kind, back.network) == (run.kind, run.network)
    assert (back.task, back.recipe) == (run.task, run.recipe)


@pytest.mark.parametrize(
    ("layout", "keywords", "words"),
    [
        ("vit", TINY, {"settings": ["heads=3"]}),
        ("resnet", RESNET, {"origin": "medicalnet", "shape": 32}),
        ("unetr", UNETR, {"settings": ["heads=3"]}),
        ("segresnet", SEGRESNET, {"shape": 32}),
        ("densenet", DENSENET, {"shape": 32}),
        ("nidl", NIDL, {"settings": ["heads=3"], "origin": "nidl"}),
    ],
)
def test_every_network_comes_back_exactly(tmp_path, layout, keywords, words):
    arrays = foreign(layout, keywords)
    write_torch(tmp_path / "theirs.pt", arrays)
    run = read(tmp_path / "theirs.pt", **{"origin": "monai", **words})
    (path,) = export(run, tmp_path / "out")
    written = open_tensors(path)
    assert written.tensors.keys() == arrays.keys()
    for key, array in arrays.items():
        if "cross_attn" not in key and "num_batches" not in key:
            np.testing.assert_array_equal(written.read(key), array, err_msg=key)
    back = read_checkpoint(path).run
    same(run, back)
    assert back.network == run.network


def test_our_own_encoders_keep_our_names(tmp_path):
    run = downstream(tmp_path)
    network = {"encoder": {"name": "cnn", "shape": [32] * 3, "width": 4}}
    pure = plan_network("encoder", network)
    leaves, _ = jax.tree_util.tree_flatten_with_path(pure.params)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in leaves
    }
    fill = unflatten(make_weights(shapes))
    run = run._replace(
        kind="encoder",
        network=network,
        graphdef=pure.graphdef,
        params=fill,
        batch_stats={},
        task=None,
    )
    (path,) = export(run, tmp_path / "out")
    back = read_checkpoint(path).run
    same(run, back)
    assert back.network == network
    with pytest.raises(InputRefusedError, match="BrainIAC has no encoder 'cnn'"):
        export(run, tmp_path / "out", naming="brainiac")


def test_what_a_naming_lacks_is_refused(tmp_path):
    run = downstream(tmp_path)
    norm = {"scale": np.ones(48, np.float32), "bias": np.zeros(48, np.float32)}
    head = {**run.params["head"], "norm": norm}
    run = run._replace(params={**run.params, "head": head})
    with pytest.raises(InputRefusedError, match="LayerNorm before it"):
        export(run, tmp_path / "out", naming="brainiac")
    with pytest.raises(InputRefusedError, match="--to: wanted one of"):
        export(run, tmp_path / "out", to="onnx")
    export(run, tmp_path / "once")
    with pytest.raises(InputRefusedError, match="is there already"):
        export(run, tmp_path / "once")
    with pytest.raises(InputRefusedError, match="wanted neither --naming"):
        export(run, tmp_path / "out", to="stablehlo", naming="brainiac")
    with pytest.raises(InputRefusedError, match="--monai-version: wanted one of"):
        export(run, tmp_path / "out", monai_version="2.0")


def test_a_head_without_its_file_is_named_and_anothers_refused(tmp_path):
    run = downstream(tmp_path)
    encoder, head = export(run, tmp_path / "out")
    other = run._replace(checkpoint="another")
    _, foreign_head = export(other, tmp_path / "other")
    head.write_bytes(foreign_head.read_bytes())
    with pytest.raises(InputRefusedError, match=r"head\.safetensors: wanted the head"):
        read_checkpoint(encoder)
    head.unlink()
    found = read_checkpoint(encoder)
    assert found.run.kind == "encoder"
    assert found.rows[-1].note == "not beside the file: features only"


def test_one_logit_goes_back_as_one(tmp_path):
    words = {"task": "classification", "target": "idh", "classes": "wild,mutant"}
    path = lightning(tmp_path / "idh.ckpt", twin=False)
    run = read(path, origin="brainiac_v2", settings=["heads=3"], **words)
    assert run.network["outputs"] == 2
    (back,) = export(run, tmp_path / "out", naming="brainiac")
    written = open_tensors(back)
    for key in ("weight", "bias"):
        name = f"model.classifier.fc.{key}"
        np.testing.assert_array_equal(written.read(name), open_tensors(path).read(name))
    same(run, read_checkpoint(back).run)


def test_whom_a_run_learnt_from_goes_with_it(tmp_path):
    run = downstream(tmp_path)._replace(subjects=["sub-01"])
    text = export(run, tmp_path / "out")[0].read_bytes()
    assert b"sub-01" not in text
    back = read_checkpoint(tmp_path / "out" / "encoder.safetensors").run
    refuse_seen_subjects(back, ["sub-02"], "data")
    with pytest.raises(InputRefusedError, match="it learnt from, such as sub-01"):
        refuse_seen_subjects(back, ["sub-01", "sub-02"], "data")


@pytest.mark.parametrize(
    "change",
    [
        {"network": []},
        {"network": {"encoder": {"name": "cnn", "wydth": 3}}},
        {"kind": "os.system"},
        {"recipe": {"name": "canonical", "version": 1, "spacing": 1e-9}},
        {"task": {"name": "regression"}},
        {"subjects": 3},
        [],
        "[" * 100_000,
    ],
)
def test_a_damaged_description_is_one_line(tmp_path, change):
    run = downstream(tmp_path)
    arrays = foreign("vit", TINY)
    about = {**describe(run), **change} if isinstance(change, dict) else change
    text = about if isinstance(about, str) else json.dumps(about)
    write_torch(tmp_path / "own.ckpt", arrays, facts={"brainjax": text})
    with pytest.raises(InputRefusedError) as refused:
        read_checkpoint(tmp_path / "own.ckpt")
    assert str(refused.value).startswith(str(tmp_path / "own.ckpt"))
    assert "\n" not in str(refused.value)


def test_our_own_files_say_it_all(tmp_path):
    encoder, _ = export(downstream(tmp_path), tmp_path / "out")
    assert read(encoder, spacing=None).recipe.spacing == 6.0
    with pytest.raises(InputRefusedError, match=r"recipe canonical .*brainiac_v2"):
        read(encoder, recipe="brainiac_v2", spacing=None)
    with pytest.raises(InputRefusedError, match="no statement of the origin"):
        read(encoder, origin="monai")


OUTSIDE = """
import json, sys
from pathlib import Path
import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file
folder = Path(sys.argv[1])
model = export.deserialize((folder / "model.stablehlo").read_bytes())
weights = load_file(folder / "weights.safetensors")
volumes = np.load(folder / "volumes.npy")
for count in (1, len(volumes)):
    found = model.call(weights, volumes[:count])
np.savez(folder / "found.npz", **found)
assert not any(name.startswith(("brainjax", "flax")) for name in sys.modules)
"""


def test_stablehlo_runs_without_us(tmp_path):
    run = downstream(tmp_path)
    export(run, tmp_path, to="stablehlo")
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["volumes"] == {"shape": ["batch", 32, 32, 32], "dtype": "uint8"}
    assert about["outputs"] == {"features": ["batch", "48"], "prediction": ["batch"]}
    codes = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 32), np.uint8)
    np.save(tmp_path / "volumes.npy", codes)
    words = [sys.executable, "-W", "error", "-c", OUTSIDE, str(tmp_path)]
    subprocess.run(words, check=True)
    found = np.load(tmp_path / "found.npz")
    weights = flatten({"params": run.params, "batch_stats": run.batch_stats})
    wanted = jax.jit(make_program(run))(weights, codes)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_several_scans_of_a_subject_are_one_answer(tmp_path, tiny_cohort):
    words = {"task": "regression", "target": "age", "unit": "years", "inputs": 2}
    path = lightning(tmp_path / "pair.ckpt", twin=False)
    run = read(path, origin="brainiac_v2", settings=["heads=3"], **words)
    scans = sorted(tiny_cohort.glob("*.nii.gz"))[:3]
    table = tmp_path / "pairs.csv"
    pairs = [f"{path},{who}" for path, who in zip(scans, "aab", strict=True)]
    table.write_text("\n".join(["path,subject", *pairs]) + "\n")
    failures = predict(run, [str(table)], out=tmp_path / "answers.csv")
    assert failures == [(str(scans[2]), "wanted 2 scans of b, got 1")]
    with (tmp_path / "answers.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["source"] == f"{scans[0]}+{scans[1]}"
    codes = np.stack([prepare_volume(scan, run.recipe).codes for scan in scans[:2]])
    weights = flatten({"params": run.params, "batch_stats": run.batch_stats})
    program = jax.jit(make_program(run))
    wanted = program(weights, codes[None])["prediction"]
    np.testing.assert_allclose(float(row["prediction"]), wanted[0], rtol=1e-5)


def test_the_command_line_both_ways(tmp_path, tiny_cohort, capsys):
    path = lightning(tmp_path / "age.ckpt", twin=False)
    words = ["--origin", "brainiac_v2", "--recipe", "canonical", "--spacing", "6"]
    words += ["--set", "heads=3", "--task", "regression", "--target", "age"]
    words += ["--unit", "years"]
    run = str(tmp_path / "run")
    assert main(["convert", str(path), "--out", run, *words]) == 0
    shown = capsys.readouterr().out
    assert "BrainIAC v2" in shown
    assert "classifier.fc.bias" in shown
    assert main(["export", run, "--to", "torch", "--out", str(tmp_path / "back")]) == 0
    back = str(tmp_path / "again")
    encoder = tmp_path / "back" / "encoder.ckpt"
    assert main(["convert", str(encoder), "--out", back]) == 0
    tables = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for folder, table in zip((run, back), tables, strict=True):
        assert main(["predict", folder, str(tiny_cohort), "--out", str(table)]) == 0
    # The hash of the checkpoint is another, the answers are the same.
    lines = [table.read_text().splitlines() for table in tables]
    answers = [[line.rsplit(",", 1)[1] for line in table] for table in lines]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 17
    assert main(["evaluate", run]) == 2
    assert "--prepared" in capsys.readouterr().err
    # From the file and from the run: the same features, and another pool is another's.
    scan, out = str(min(tiny_cohort.glob("*.nii.gz"))), tmp_path / "features.csv"
    found = {}
    for name, words in {
        "run": [run],
        "file": [str(encoder), "--recipe", "canonical"],
        "mean": [run, "--pool", "mean"],
    }.items():
        verb = ["embed", words[0], scan, *words[1:], "--out", str(out)]
        assert main(verb) == 0
        found[name] = out.read_text().splitlines()[1].split(",")[6:]
    assert found["run"] == found["file"] != found["mean"]
    verb = ["embed", run, scan, "--pool", "class_token", "--out", str(out)]
    assert main(verb) == 2
    assert main(["predict", str(encoder), scan]) == 2
    assert "`brainjax convert`" in capsys.readouterr().err


def test_every_layout_is_one_of_an_encoder():
    from brainjax.models import ENCODERS

    assert {layout.encoder for layout in LAYOUTS.values()} <= {*ENCODERS, "unetr"}


def test_a_convolution_is_exported_for_every_platform(tmp_path):
    write_torch(tmp_path / "theirs.pt", foreign("resnet", RESNET))
    run = read(tmp_path / "theirs.pt", origin="monai", shape=32)
    export(run, tmp_path / "out", to="stablehlo")
    model = (tmp_path / "out" / "model.stablehlo").read_bytes()
    program = jax_export.deserialize(bytearray(model)).mlir_module()
    # What is fast on a CPU alone, images of planes, is not what others are given.
    assert "[b, 0, 1, 2, f]x[0, 1, 2, i, o]" in program
    assert "[b, 0, 1, f]x" not in program


def test_a_file_named_without_its_folder_is_named_once(tmp_path, monkeypatch):
    about = describe(downstream(tmp_path))
    arrays = foreign("vit", TINY)
    del arrays["norm.bias"]
    facts = {"brainjax": json.dumps(about)}
    write_torch(tmp_path / "own.ckpt", arrays, facts=facts)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputRefusedError, match=r"^own\.ckpt: 1 of") as refused:
        read_checkpoint("own.ckpt")
    assert str(refused.value).count("own.ckpt") == 1
