"""The sample launchers: one of them started here, the others read as far as can be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from brainjax.cli.processes import CUSTOMARY
from tests.train.configs import CONFIGS, tiny_words
from tests.train.processes import ROOT, losses

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix != ".yaml")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_well_formed(script):
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell=bash", script], check=True)


def test_options_of_slurm_come_before_any_command():
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    commands = [i for i, line in enumerate(lines) if line and line[0] != "#"]
    assert max(options) < min(commands)
    told = {lines[i].split()[1].split("=")[0] for i in options}
    assert {"--requeue", "--signal", "--ntasks-per-node", "--gpus-per-node"} <= told
    assert "--gpus-per-task" not in told  # each would see one GPU, called 0


def test_the_jobset_says_what_its_processes_need():
    jobset = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == (
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
    )
    name, spec = jobset["metadata"]["name"], jobset["spec"]
    assert spec["network"]["enableDNSHostnames"] is True
    (replicated,) = spec["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert set(CUSTOMARY) <= set(environment)
    host, port = environment["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    # JobSet calls a pod SET-JOB-REPLICA-INDEX, in the domain of the headless service.
    first = f"{name}-{replicated['name']}-0-0"
    assert host == f"{first}.{spec['network']['subdomain']}"
    assert int(port) in [entry["containerPort"] for entry in container["ports"]]
    count = int(environment["JAX_NUM_PROCESSES"]["value"])
    assert job["parallelism"] == job["completions"] == count
    assert job["completionMode"] == "Indexed"
    index = environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert "batch.kubernetes.io/job-completion-index" in index
    assert "--processes=auto" in container["command"]
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert spec["failurePolicy"]["maxRestarts"] > 0
    assert pod["terminationGracePeriodSeconds"] > 60
    mounted = {entry["name"] for entry in container["volumeMounts"]}
    assert mounted == {entry["name"] for entry in pod["volumes"]}


@pytest.mark.slow
def test_the_local_launcher_starts_one_run_on_two_processes(tiny_prepared, tmp_path):
    wrapper = tmp_path / "brainjax"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m brainjax.cli "$@"\n')
    wrapper.chmod(0o755)
    config = ["--config", str(CONFIGS / "pretrain_vit_b.py")]
    done = subprocess.run(
        [
            *(LAUNCH / "local.sh", "pretrain", *config, "--workdir", tmp_path / "run"),
            *tiny_words(tiny_prepared, "--config.probe.every=1000"),
        ],
        env={**os.environ, "BRAINJAX": str(wrapper), "PROCESSES": "2"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pretrained; summary in") == 2
    assert len(losses(tmp_path / "run")) == 6
