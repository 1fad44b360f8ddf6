"""The step learns, skips what is not finite, and does not care about the mesh."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import make_augmentation
from brainjax.train.folder import RunFolder
from brainjax.train.hooks import DivergedError, MetricLog, StopWhenDiverged
from brainjax.train.pretrain import plan_pretraining
from brainjax.train.simclr import make_pretrain_update
from tests.train.configs import tiny_pretraining

BATCH = 8


def batch() -> dict:
    """Eight noisy balls, each of its own grain."""
    generator = np.random.default_rng(0)
    inside = ((np.indices((24, 24, 24)) - 11.5) ** 2).sum(0) < 100
    coarse = generator.integers(1, 256, (BATCH, 8, 8, 8), dtype=np.uint8)
    volumes = coarse.repeat(3, 1).repeat(3, 2).repeat(3, 3) * inside
    numbers = np.arange(BATCH, dtype=np.int32)
    return {"volumes": volumes, "subjects": numbers, "positions": numbers}


def plan(*overrides: str):
    blueprint = plan_pretraining(tiny_pretraining(Path("unused"), *overrides))
    augmentation = make_augmentation(view=24, crop=(0.9, 1.0))
    update = make_pretrain_update(blueprint, augmentation, seed=0, temperature=0.1)
    return blueprint, update


def losses(*overrides: str, steps: int) -> list[float]:
    blueprint, update = plan(*overrides)
    state, found = blueprint.initialise(), []
    for _ in range(steps):
        state, metrics = update(state, batch())
        found.append(float(metrics["loss"]))
    return found


@pytest.mark.slow
def test_a_batch_seen_again_and_again_is_learnt():
    found = losses("--config.optimizer.peak=1e-3", steps=6)
    assert found[-1] < 0.5 * found[0]


def test_a_step_that_is_not_finite_moves_nothing_and_is_counted():
    blueprint, update = plan("--config.optimizer.peak=1e-3")
    state = blueprint.initialise()
    state["params"]["projector"]["linear1"]["kernel"] *= jnp.inf
    before = jax.tree.map(np.array, state)
    state, metrics = update(state, batch())
    for part in ("params", "batch_stats", "opt"):
        chex.assert_trees_all_equal(jax.tree.map(np.array, state[part]), before[part])
    assert int(state["step"]) == 1
    assert int(metrics["skipped"]) == int(metrics["skipped_in_a_row"]) == 1
    state, metrics = update(state, batch())
    assert int(metrics["skipped_in_a_row"]) == 2


def test_steps_that_stay_non_finite_stop_the_run(tmp_path):
    log = MetricLog(RunFolder(tmp_path), start=0, every=1, batch=1)
    guard = StopWhenDiverged(log, patience=2)
    for step, in_a_row in ((1, 0), (2, 1), (3, 2)):
        log(step, {}, {"loss": 1.0, "skipped_in_a_row": in_a_row})
        if in_a_row < 2:
            guard(step, {}, {})
    with pytest.raises(
        DivergedError, match=r"the last 2 steps .* Lower optimizer\.peak"
    ):
        guard(3, {}, {})
    log.close()


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_four_devices_give_the_loss_curve_of_one(fsdp):
    code = (
        "from tests.train.test_step import losses\n"
        f"print(*losses('--config.mesh.fsdp={fsdp}', steps=4))\n"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=True,
    )
    sharded = [float(word) for word in done.stdout.split()]
    np.testing.assert_allclose(sharded, losses(steps=4), rtol=1e-4)
