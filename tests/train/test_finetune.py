"""Fine-tuning: what is frozen stays, what is pretrained arrives, labels are few."""

import chex
import jax
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.store import open_dataset
from brainjax.train.finetune import finetune, plan_finetuning
from brainjax.train.pretrain import pretrain
from brainjax.train.restore import load_run
from tests.train.configs import tiny_finetuning, tiny_pretraining


@pytest.fixture(scope="module")
def encoder(tiny_prepared, tmp_path_factory):
    """A pretrained run, made once."""
    return pretrain(
        tiny_pretraining(tiny_prepared), tmp_path_factory.mktemp("runs") / "pretrain"
    ).path


def moved(before, after) -> bool:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


def test_a_frozen_encoder_does_not_move_and_its_head_does(
    tiny_prepared, encoder, tmp_path
):
    config = tiny_finetuning(tiny_prepared, encoder, "--config.mode=frozen")
    run = load_run(finetune(config, tmp_path / "frozen").path)
    chex.assert_trees_all_equal(
        run.params["encoder"], load_run(encoder).params["encoder"]
    )
    assert np.abs(run.params["head"]["linear"]["bias"]).max() > 0


def test_whole_fine_tuning_starts_from_the_pretrained_encoder_and_moves_it(
    tiny_prepared, encoder, tmp_path
):
    config = tiny_finetuning(tiny_prepared, encoder, "--config.optimizer.peak=1e-6")
    run = load_run(finetune(config, tmp_path / "whole").path)
    donor = load_run(encoder)
    assert moved(run.params["encoder"], donor.params["encoder"])
    chex.assert_trees_all_close(
        run.params["encoder"], donor.params["encoder"], atol=1e-4
    )


@pytest.mark.slow
def test_scratch_has_the_same_network_and_other_weights(
    tiny_prepared, encoder, tmp_path
):
    # Another seed: with the same one, scratch starts where pretraining started.
    config = tiny_finetuning(
        tiny_prepared, encoder, "--config.weights=random", "--config.seed=1"
    )
    run = load_run(finetune(config, tmp_path / "scratch").path)
    donor = load_run(encoder)
    chex.assert_trees_all_equal_shapes(run.params["encoder"], donor.params["encoder"])
    kernel = run.params["encoder"]["blocks"]["qkv"]["kernel"]
    assert (
        np.abs(kernel - donor.params["encoder"]["blocks"]["qkv"]["kernel"]).max() > 0.1
    )


def test_few_labels_are_few_subjects_and_none_of_them_is_tested(tiny_prepared, encoder):
    plan = plan_finetuning(tiny_finetuning(tiny_prepared, encoder))
    subjects = [row["subject"] for row in open_dataset(tiny_prepared).rows]
    parts = [{subjects[i] for i in part} for part in plan.labels.split]
    assert len(parts[0]) == 8
    assert sum(map(len, parts)) == len(set.union(*parts))


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        (
            "--config.mode=half",
            r"mode: wanted one of whole, frozen, adapters, got 'half'",
        ),
        ("--config.init=", "init: wanted a pretraining run"),
        ("--config.task.target=height", "height"),
        ("--config.data.train_subjects=99", "wanted 99, the split has"),
        ("--config.init=nowhere", "nowhere: wanted the folder of a run"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    override, wanted, tiny_prepared, encoder, tmp_path
):
    config = tiny_finetuning(tiny_prepared, encoder, override)
    with pytest.raises(InputRefusedError, match=wanted):
        finetune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
