"""Converted, fine-tuned on real scans, exported, loaded by MONAI: one prediction."""

import csv
import json

import numpy as np
import pytest

from brainjax.cli import main
from tests.reference import brainiac

pytestmark = pytest.mark.reference

CONFIG = "configs/brainiac_age.py"
SUBJECTS = 24


@pytest.fixture(autouse=True)
def torch():
    return pytest.importorskip("torch")


def test_a_fine_tuned_encoder_predicts_the_same_in_monai(sample_scans, tmp_path, torch):
    from monai.networks.nets import ViT
    from safetensors import safe_open
    from safetensors.torch import load_file

    sizes = {"hidden_size": 48, "mlp_dim": 96, "num_layers": 2, "num_heads": 3}
    torch.manual_seed(3)
    network = ViT(1, (96,) * 3, (16,) * 3, **sizes)
    state = {f"backbone.{key}": values for key, values in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "base.ckpt")
    run, age, data = (str(tmp_path / name) for name in ("run", "age", "data"))
    words = ["--origin", "brainiac_v2", "--set", "heads=3"]
    assert main(["convert", str(tmp_path / "base.ckpt"), "--out", run, *words]) == 0
    ixi = sample_scans / "ixi"
    scans = [str(path) for path in sorted(ixi.glob("*_T1w.nii.gz"))[:SUBJECTS]]
    words = ["--labels", str(ixi / "participants.tsv"), "--recipe", "brainiac_v2"]
    assert main(["prepare", *scans, *words, "--out", data]) == 0
    settings = {"init": run, "data.path": data, "split.stratify": "", "train.batch": 8}
    # One epoch over the training part.
    settings |= {"train.steps": 2, "train.save_every": 2, "optimizer.warmup": 1}
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    assert main(["finetune", "--config", CONFIG, "--workdir", age, *words]) == 0
    out = tmp_path / "answers.csv"
    assert main(["predict", age, *scans[:3], "--out", str(out)]) == 0
    with out.open() as file:
        ours = [float(row["prediction"]) for row in csv.DictReader(file)]
    assert main(["export", age, "--out", str(tmp_path / "back")]) == 0
    paths = [tmp_path / "back" / f"{name}.safetensors" for name in ("encoder", "head")]
    network = ViT(1, (96,) * 3, (16,) * 3, **sizes).eval()
    network.load_state_dict(load_file(paths[0]), strict=True)
    head = torch.nn.Linear(48, 1)
    head.load_state_dict(load_file(paths[1]), strict=True)
    with safe_open(paths[0], "pt") as file:
        task = json.loads(file.metadata()["brainjax"])["task"]
    with torch.no_grad():
        tokens = [network(brainiac.v2_volume(scan))[0][:, 0] for scan in scans[:3]]
        theirs = [head(token).item() * task["std"] + task["mean"] for token in tokens]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.ptp(ours) > 1e-3
