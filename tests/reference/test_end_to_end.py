"""From a file in BrainIAC's layout and real scans to what PyTorch and MONAI give."""

import csv
from pathlib import Path

import numpy as np
import pytest

from brainjax.cli import main
from tests.golden.weights import relative_difference
from tests.reference import brainiac

pytestmark = pytest.mark.reference

STRIPPED = (
    "pixar/subpixar009_T1w.nii.gz",
    "stroke/T1.nii.gz",
    "brats_gli_00001/00001_t1c.nii.gz",
    "open_ms/patient07/patient07_FLAIR.nii.gz",
    "open_ms/patient19/patient19_T1.nii.gz",
)
BRATS = [
    f"brats_gli_00001/00001_{name}.nii.gz" for name in ("t2f", "t1c", "t1n", "t2w")
]


@pytest.fixture(autouse=True)
def torch():
    return pytest.importorskip("torch")


def features_of(path: Path, width: int) -> np.ndarray:
    with path.open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array([row[-width:] for row in rows], np.float64)


def rows_of(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("version", "width"), [("v2", 768), ("v1", 2048)])
def test_features_of_five_scans(version, width, sample_scans, tmp_path, torch):
    scans = [sample_scans / name for name in STRIPPED]
    network = brainiac.backbone(version)
    prepare = brainiac.v2_volume if version == "v2" else brainiac.v1_volume
    path = tmp_path / "BrainIAC.ckpt"
    torch.save({"state_dict": network.state_dict(), "epoch": 199}, path)
    with torch.no_grad():
        theirs = np.concatenate([network(prepare(scan)).numpy() for scan in scans])
    out = tmp_path / "features.csv"
    words = ["--recipe", f"brainiac_{version}", "--out", str(out)]
    words += ["--pool", "first_token"] if version == "v2" else []
    assert main(["embed", str(path), *map(str, scans), *words]) == 0
    assert relative_difference(features_of(out, width), theirs) < 1e-4
    assert [row["source"] for row in rows_of(out)] == list(map(str, scans))


AGE = ["--task", "regression", "--target", "age", "--unit", "months"]
SEQUENCE = ["--task", "classification", "--target", "sequence"]
SEQUENCE += ["--classes", "T1w,T2w,FLAIR,T1CE"]
IDH = ["--task", "classification", "--target", "idh", "--classes", "wildtype,mutant"]
SURVIVAL = ["--task", "classification", "--target", "dead", "--classes", "no,yes"]


@pytest.mark.parametrize(
    ("version", "outputs", "inputs", "stated"),
    [
        ("v2", 1, 1, AGE),
        ("v2", 4, 1, SEQUENCE),
        ("v2", 1, 2, IDH),
        ("v2", 1, 4, SURVIVAL),
        ("v1", 1, 1, AGE),
        ("v1", 1, 2, IDH),
        ("v1", 1, 4, SURVIVAL),
    ],
)
def test_answers_of_downstream_files(
    version, outputs, inputs, stated, sample_scans, tmp_path, torch
):
    scans = [sample_scans / name for name in BRATS[:inputs]]
    model = brainiac.downstream(version, outputs)
    path = tmp_path / "model.ckpt"
    prepare = brainiac.v2_volume if version == "v2" else brainiac.v1_volume
    if version == "v2":
        brainiac.lightning(model, path)
    else:
        state = dict(model.state_dict())
        if inputs == 2:
            state["bilinear_pooling.weight"] = torch.zeros(4, 2048, 2048)
            state["bilinear_pooling.bias"] = torch.zeros(4)
        torch.save({"model_state_dict": state, "epoch": 3, "loss": 0.5}, path)
    with torch.no_grad():
        theirs = model([prepare(scan) for scan in scans])[0].numpy()
    words = [*stated, "--inputs", str(inputs), "--out", str(tmp_path / "run")]
    assert main(["convert", str(path), *words]) == 0
    out = tmp_path / "answers.csv"
    run = str(tmp_path / "run")
    assert main(["predict", run, *map(str, scans), "--out", str(out)]) == 0
    (row,) = rows_of(out)
    if "regression" in stated:
        assert row["unit"] == "months"
        assert abs(float(row["prediction"]) - theirs[0]) < 1e-4
        return
    found = [float(value) for key, value in row.items() if key.startswith("probab")]
    wanted = np.exp(theirs) / np.exp(theirs).sum()
    if outputs == 1:
        wanted = np.array([1 / (1 + np.exp(theirs[0])), 1 / (1 + np.exp(-theirs[0]))])
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_logits_of_the_segmentation_file(sample_scans, tmp_path, torch):
    from brainjax.infer.embed import run_on_scans
    from brainjax.interop import read_checkpoint

    scan = sample_scans / BRATS[0]
    model = brainiac.segmentation()
    path = brainiac.lightning(model, tmp_path / "segmentation.ckpt", parts=False)
    with torch.no_grad():
        theirs = model(brainiac.v2_volume(scan)).numpy()
    found = read_checkpoint(path)
    notes = [row.note for row in found.rows if row.key.startswith("model.vit.")]
    assert sum("other values" in note for note in notes) > 100
    _, logits, failures = run_on_scans(
        found.run, [str(scan)], method="__call__", orientation=None, workers=1
    )
    assert not failures
    assert relative_difference(logits[0, ..., 0], theirs[0, 0]) < 1e-4
