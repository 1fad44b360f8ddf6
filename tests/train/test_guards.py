"""What a run refuses, so that no number is better than it should be."""

import json
import logging
import os
import shutil
import signal

import chex
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.infer.evaluation import evaluate_run
from brainjax.parallel import make_mesh
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.finetune import finetune
from brainjax.train.hooks import Terminated
from brainjax.train.input import open_input
from brainjax.train.pretrain import pretrain
from brainjax.train.restore import load_run
from brainjax.train.scans import split_scans
from brainjax.volume import make_recipe
from tests.train.configs import CONFIGS, tiny_finetuning, tiny_pretraining
from tests.train.test_resume import stop_after

CNN = [
    "--config.view=24,24,24",
    "--config.split.folds=0",
    "--config.split.val=0.2",
    "--config.split.test=0.25",
    "--config.train.steps=4",
    "--config.train.batch=4",
    "--config.train.save_every=2",
    "--config.optimizer.warmup=2",
]


@pytest.fixture(scope="module")
def encoder(tiny_prepared, tmp_path_factory):
    """A pretrained run, made once."""
    return pretrain(
        tiny_pretraining(tiny_prepared), tmp_path_factory.mktemp("runs") / "pretrain"
    ).path


def test_fine_tuning_refuses_to_test_on_subjects_of_its_encoder(
    tiny_prepared, encoder, tmp_path
):
    config = tiny_finetuning(tiny_prepared, encoder, "--config.split.seed=1")
    with pytest.raises(InputRefusedError, match=r"never saw, got .* learnt from"):
        finetune(config, tmp_path / "run")


def test_evaluation_refuses_test_subjects_that_were_learnt_from(
    tiny_prepared, encoder, tmp_path
):
    run = finetune(tiny_finetuning(tiny_prepared, encoder), tmp_path / "run")
    config = json.loads(run.config.read_text())
    config["split"]["seed"] = 1  # as if scans had come and the split had moved
    run.config.write_text(json.dumps(config))
    with pytest.raises(InputRefusedError, match=r"never saw, got .* learnt from"):
        evaluate_run(run.path)


def test_a_run_does_not_go_on_with_other_data(tiny_cohort, tmp_path, monkeypatch):
    labels = tiny_cohort / "participants.tsv"
    data = tmp_path / "data"
    sources, recipe = find_sources([tiny_cohort]), make_recipe(spacing=8.0)
    prepare(sources, data, recipe, labels=labels, progress=False)
    config = tiny_pretraining(data)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Terminated):
            pretrain(config, tmp_path / "run")
    prepare(sources[:-3], data, recipe, labels=labels, progress=False)
    with pytest.raises(InputRefusedError, match="this run began with data ="):
        pretrain(config, tmp_path / "run")


def test_a_refused_setting_does_not_claim_the_folder(tiny_prepared, tmp_path):
    wrong = tiny_pretraining(tiny_prepared, "--config.probe.targets=height")
    with pytest.raises(InputRefusedError, match="height"):
        pretrain(wrong, tmp_path / "run")
    assert load_run(pretrain(tiny_pretraining(tiny_prepared), tmp_path / "run").path)


def test_somebody_elses_config_is_left_alone(tiny_prepared, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputRefusedError, match="that is no run's"):
        pretrain(tiny_pretraining(tiny_prepared), tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.slow
def test_when_sigterm_comes_does_not_decide_the_best_step(
    tiny_prepared, encoder, tmp_path, monkeypatch
):
    config = tiny_finetuning(tiny_prepared, encoder)
    whole = finetune(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Terminated) as stopped:
            finetune(config, tmp_path / "cut")
    assert stopped.value.code == 128 + signal.SIGTERM
    cut = finetune(config, tmp_path / "cut")
    one, other = load_run(whole.path), load_run(cut.path)
    assert one.step == other.step
    chex.assert_trees_all_equal(one.params, other.params)
    validated = [
        row["step"]
        for row in map(json.loads, cut.metrics.read_text().splitlines())
        if "validation/loss" in row
    ]
    assert validated == [2, 4, 6]


def test_a_damaged_newest_step_is_made_again(tiny_prepared, encoder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(encoder, run)
    wanted = load_run(encoder)
    largest = max(
        (p for p in (run / "checkpoints" / "6").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    os.remove(run / "summary.json")
    pretrain(tiny_pretraining(tiny_prepared), run)
    again = load_run(run)
    assert again.step == wanted.step == 6
    chex.assert_trees_all_equal(again.params, wanted.params)


@pytest.mark.slow
def test_a_frozen_encoder_keeps_its_running_statistics(tiny_prepared, tmp_path):
    from brainjax.configuration import load_config

    words = [*CNN, f"--config.data.path={tiny_prepared}", "--config.mode=frozen"]
    config = load_config(CONFIGS / "ixi_age_cnn.py", words)
    run = load_run(finetune(config, tmp_path / "frozen").path)
    for name, leaf in flat(run.batch_stats["encoder"]).items():
        start = 0.0 if name.endswith("mean") else 1.0
        np.testing.assert_array_equal(leaf, start)


def flat(tree, path: str = "") -> dict:
    if not isinstance(tree, dict):
        return {path: tree}
    found = {}
    for name, branch in tree.items():
        found |= flat(branch, f"{path}/{name}")
    return found


def test_a_batch_of_one_subject_is_warned_of_once(tiny_prepared, caplog):
    dataset = open_dataset(tiny_prepared)
    scans = open_input(
        dataset, np.array([3]), batch=2, seed=0, start_step=0, mesh=make_mesh()
    )
    with caplog.at_level(logging.WARNING, logger="brainjax"):
        next(scans)
        next(scans)
    assert [r for r in caplog.messages if "no negatives" in r] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_damaged_record_is_replaced_and_named_and_the_run_goes_on(
    tiny_prepared, tmp_path, monkeypatch
):
    config = tiny_pretraining(tiny_prepared)
    dataset = open_dataset(tiny_prepared)
    split = split_scans(dataset, **config.split)
    bad = int(split.train[0])
    read = RecordDataset.read

    def damaged(self, index):
        if index == bad:
            raise InputRefusedError("shard: flipped bytes")
        return read(self, index)

    monkeypatch.setattr(RecordDataset, "read", damaged)
    run = pretrain(config, tmp_path / "run")
    summary = json.loads(run.summary.read_text())
    assert summary["steps"] == 6
    assert summary["bad_records"] == {
        dataset.rows[bad]["source"]: "shard: flipped bytes"
    }
