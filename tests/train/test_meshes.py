"""A run goes on with other devices, in another arrangement, as if nothing had been."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.checkpoint import Checkpoints
from brainjax.configuration import to_dict
from brainjax.errors import InputRefusedError
from brainjax.train.folder import HOW, RunFolder, read_json, without
from tests.train.configs import tiny_pretraining
from tests.train.processes import ROOT, losses

PART = """
import os, signal, sys
from pathlib import Path
from ml_collections import ConfigDict
from brainjax.train import session
from brainjax.train.pretrain import pretrain
from tests.train.configs import tiny_pretraining

data, run, encoder, stop, *words = sys.argv[1:]
real = session.train

def with_signal(state, update, batches, *, steps, hooks):
    def kick(number, state, metrics):
        if number == int(stop):
            os.kill(os.getpid(), signal.SIGTERM)
    return real(state, update, batches, steps=steps, hooks=[kick, *hooks])

session.train = with_signal
config = tiny_pretraining(Path(data), *words)
if encoder != "vit":
    with config.unlocked():
        config.encoder = ConfigDict({"name": encoder})
pretrain(config, run)
"""

LENGTH = ["--config.train.steps=12", "--config.train.batch=8"]
PARTS = [
    (8, 4, ["--config.data.source=device", "--config.loss.form=ring"]),
    (4, 8, ["--config.mesh.fsdp=2", "--config.loss.form=gather"]),
    (1, 0, ["--config.data.source=stream", "--config.loss.form=plain"]),
]
"""Devices, the step after which SIGTERM comes, and how the part is computed."""


IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""Else simulated devices may begin independent collectives in different orders, and
wait for each other for good."""


def run_part(data, run, encoder, *, devices, stop, words) -> int:
    flags = f"--xla_force_host_platform_device_count={devices} {IN_ORDER}"
    return subprocess.run(
        [sys.executable, "-c", PART, data, run, encoder, str(stop), *LENGTH, *words],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        cwd=ROOT,
        timeout=200,
        check=False,
    ).returncode


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vit", "plain_cnn"])  # the second: BatchNorm
def test_eight_then_four_then_one_device_are_one_run(encoder, tiny_prepared, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_part(tiny_prepared, whole, encoder, devices=1, stop=0, words=[]) == 0
    for devices, stop, words in PARTS:
        code = run_part(
            tiny_prepared, cut, encoder, devices=devices, stop=stop, words=words
        )
        assert code == (143 if stop else 0)
        assert len(losses(cut)) == (stop or 12)
    np.testing.assert_allclose(losses(cut), losses(whole), rtol=2e-3)
    # What the run is computed on now is what its config says.
    assert read_json(cut / "config.json")["loss"]["form"] == "plain"
    assert "fsdp" in read_json(cut / "config.json")["mesh"]


def test_a_resumed_run_may_differ_in_how_but_not_in_what(tiny_prepared, tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = {
        "kind": "pretrain",
        **to_dict(tiny_pretraining(tiny_prepared)),
    }
    folder.claim(config)
    checkpoints = Checkpoints(folder.checkpoints)
    checkpoints.save(1, {"a": jnp.ones(2)}, {}, wait=True)
    checkpoints.close()
    other = json.loads(json.dumps(config))
    other["mesh"]["fsdp"], other["data"]["source"] = -1, "stream"
    other["loss"]["form"], other["profile_steps"] = "blocks", [2, 3]
    assert without(other, HOW) == without(config, HOW)
    folder.claim(other)
    assert read_json(folder.config) == other
    for section, key in (("data", "path"), ("loss", "temperature"), ("train", "batch")):
        changed = json.loads(json.dumps(other))
        changed[section][key] = "another"
        with pytest.raises(InputRefusedError, match=f"{section}.{key} = .*'another'"):
            folder.claim(changed)
    assert read_json(folder.config) == other
    folder.release()


HOLD = """
import sys
from brainjax.train.folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.claim({"kind": "pretrain"})
print("held", flush=True)
sys.stdin.readline()
"""


def test_two_runs_never_write_into_one_folder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    folder = RunFolder(tmp_path / "run")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputRefusedError) as refused:
            folder.claim({"kind": "finetune"})
        assert f"got one of process {holder.pid} on " in str(refused.value)
        assert "\n" not in str(refused.value)
        assert read_json(folder.config) == {"kind": "pretrain"}
    finally:
        holder.kill()
        holder.communicate()
    # However the other ended: its lock is gone.
    folder.claim({"kind": "finetune"})
    folder.claim({"kind": "finetune"})
    folder.release()
