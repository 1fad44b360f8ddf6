"""Gradient caching gives the gradient of the whole batch, on any mesh."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import make_augmentation
from brainjax.errors import InputRefusedError
from brainjax.losses import ntxent
from brainjax.models.heads import drop
from brainjax.models.pure import run
from brainjax.parallel import make_mesh
from brainjax.train.caching import ENCODER, count_micro_batches, make_passes, pick
from brainjax.train.pretrain import plan_pretraining, pretrain
from brainjax.train.simclr import make_pretrain_update
from brainjax.train.views import paired_views
from tests.train.configs import tiny_pretraining
from tests.train.test_step import BATCH, batch

# No gradient gets lost in a step's normalisation: what Adam has seen is 0.1 times it.
ADAM = ("--config.optimizer.name=adam", "--config.optimizer.weight_decay=0")
# A crop and noise show whether draws are replayed; the rest only takes time to compile.
AUGMENTATION = make_augmentation(
    view=24, crop=(0.5, 1.0), bias=0, gamma=0, brightness=0, contrast=0, blur=0
)


def plan(*overrides: str):
    unclipped = ("--config.optimizer.clip=none", *ADAM)
    config = tiny_pretraining(Path("unused"), *unclipped, *overrides)
    return plan_pretraining(config)


def plan_cnn(norm: str):
    """A small CNN: its config has other keys than the ViT's."""
    from ml_collections import ConfigDict

    config = tiny_pretraining(Path("unused"), "--config.optimizer.clip=none", *ADAM)
    with config.unlocked():
        config.encoder = ConfigDict(
            {"name": "plain_cnn", "channels": (4, 4, 4), "norm": norm}
        )
    return plan_pretraining(config)


def first_step(blueprint, batch: dict, *, micro_batch: int = 0, **loss):
    """The first gradient (times 0.1), the statistics and the metrics of a step."""
    words = {"seed": 0, "temperature": 0.1, **loss}
    update = make_pretrain_update(
        blueprint, AUGMENTATION, micro_batch=micro_batch, **words
    )
    state, metrics = update(blueprint.initialise(), batch)
    return jax.device_get((gradient(state), state["batch_stats"], metrics))


def gradient(state: dict):
    """What Adam keeps of the gradients it has seen."""
    found = [
        tree.mu
        for tree in jax.tree.leaves(
            state["opt"], is_leaf=lambda leaf: hasattr(leaf, "mu")
        )
        if hasattr(tree, "mu")
    ]
    assert len(found) == 1
    return found[0]


def assert_close(one, other, *, share: float = 2e-5) -> None:
    """Every value within `share` of the largest one."""
    chex.assert_trees_all_equal_shapes(one, other)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(one))
    chex.assert_trees_all_close(one, other, rtol=share, atol=share * largest)


def test_micro_batches_give_the_gradient_of_the_whole():
    blueprint, within = plan(), {"crops": 2, "negatives": "within"}
    whole = first_step(blueprint, batch(), **within)
    assert_close(whole, first_step(blueprint, batch(), micro_batch=2, **within))


def test_dropout_and_every_other_draw_is_replayed_by_key():
    weights = {ENCODER: jnp.linspace(-1, 1, 12).reshape(3, 4)}
    rows = {"positions": jnp.arange(8), "values": jnp.sin(jnp.arange(24.0))}
    rows["values"] = rows["values"].reshape(8, 3)

    def embed(params, batch_stats, micro, *, mesh):
        keys = jax.vmap(jax.random.key)(micro["positions"])
        values = micro["values"] + jax.vmap(partial(jax.random.normal, shape=(3,)))(
            keys
        )
        features = drop(jnp.tanh(values @ params[ENCODER]), keys, 0.5)
        return features[:, None], batch_stats

    def loss(features):
        return jnp.sum(jnp.cos(3 * features) * features.sum())

    def whole(encoder):
        return loss(embed({ENCODER: encoder}, {}, rows, mesh=None)[0])

    passes = make_passes(embed, count=4, mesh=make_mesh(), specs=None)
    features, _ = passes.first(weights, {}, rows)
    want = embed(weights, {}, rows, mesh=None)[0]
    np.testing.assert_allclose(features, want, rtol=1e-6)
    found = passes.second(weights, {}, rows, jax.grad(loss)(features))
    np.testing.assert_allclose(found, jax.grad(whole)(weights[ENCODER]), rtol=2e-5)


@pytest.mark.slow
def test_batch_norm_is_that_of_the_micro_batches_and_moves_once():
    blueprint = plan_cnn("batch")
    found, stats, metrics = first_step(blueprint, batch(), micro_batch=4)
    state = blueprint.initialise()
    given = batch()
    mesh = blueprint.mesh
    views = [
        paired_views(part["volumes"], part["positions"], AUGMENTATION, mesh, seed=0)
        for part in (pick(given, number, 2) for number in (0, 1))
    ]

    def plain(params):
        after, features = state["batch_stats"], []
        for part in views:
            rows, after = run(
                blueprint.graphdef, params, after, part, train=True, method="encode"
            )
            features.append(rows.reshape(4, 2, -1))
        joined = jnp.stack(features, axis=1).reshape(2 * BATCH, -1)
        projected, after = run(
            blueprint.graphdef, params, after, joined, train=True, method="project"
        )
        pairs = projected.reshape(BATCH, 2, -1)
        loss = ntxent(pairs[:, 0], pairs[:, 1], jnp.arange(BATCH), temperature=0.1)
        return loss, after

    slope_of = jax.jit(jax.value_and_grad(plain, has_aux=True))
    (loss, after), slope = slope_of(state["params"])
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    assert_close(found, jax.tree.map(lambda g: 0.1 * g, slope))
    assert_close(stats, jax.device_get(after))


class Halves:
    """A batch as it comes from a stream: every micro-batch twice."""

    def __init__(self, given: dict, count: int):
        parts = [pick(given, number, count) for number in range(count)]
        self.first, self.second = iter(parts), iter(parts)


@pytest.mark.slow
def test_micro_batches_streamed_twice_give_it_too():
    blueprint = plan()
    whole = first_step(blueprint, batch())
    assert_close(whole, first_step(blueprint, Halves(batch(), 2), micro_batch=4))


def shapes(size: int, rows: int = 64) -> dict:
    """A batch of a data set on the device, without its values."""
    numbers = jax.ShapeDtypeStruct((size,), np.int32)
    dataset = jax.ShapeDtypeStruct((rows, 24, 24, 24), np.uint8)
    return {
        "dataset": dataset,
        "rows": numbers,
        "subjects": numbers,
        "positions": numbers,
    }


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batch_apart_from_embeddings():
    blueprint = plan()
    update = make_pretrain_update(
        blueprint, AUGMENTATION, seed=0, temperature=0.1, micro_batch=4, form="blocks"
    )

    def temporary(size: int) -> int:
        program = update.lower(blueprint.abstract, shapes(size)).compile()
        return program.memory_analysis().temp_size_in_bytes

    # A pair keeps its features and what the projector makes of them, not its views.
    views = 2 * 24**3 * 4
    # Both are larger than a block of cosines, which is as large in either.
    assert temporary(4096) - temporary(1024) < 3072 * views / 10


def test_a_micro_batch_that_does_not_fit_is_refused():
    assert count_micro_batches(8, 0, 4) == 1
    assert count_micro_batches(8, 4, 4) == 2
    for micro_batch, devices in ((3, 1), (2, 4), (16, 1), (-2, 1)):
        with pytest.raises(InputRefusedError, match="divisor of the batch of 8"):
            count_micro_batches(8, micro_batch, devices)
    with pytest.raises(InputRefusedError, match="2 or more for negatives within"):
        make_pretrain_update(
            plan(), AUGMENTATION, seed=0, temperature=0.1, negatives="within"
        )


EIGHT = """
import jax, numpy as np
from tests.train.test_caching import *
twice = {name: np.concatenate([leaf, leaf]) for name, leaf in batch().items()}
twice["positions"] = np.arange(16, dtype=np.int32)
held = {**twice, "rows": np.arange(16)[::-1].astype(np.int32)}
held["dataset"] = held.pop("volumes")[::-1].copy()
want = first_step(plan(), twice)
for data, batches in ((8, held), (2, held), (2, Halves(twice, 2))):
    words = (f"--config.mesh.data={data}", f"--config.mesh.fsdp={8 // data}")
    assert_close(want, first_step(plan(*words), batches, micro_batch=8))
print("all hold")
"""


@pytest.mark.slow
def test_eight_devices_give_the_gradient_of_one():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-c", EIGHT],
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("all hold"), done.stderr[-3000:]


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


@pytest.mark.slow
def test_a_run_is_the_same_from_the_device_and_streamed_twice(tiny_prepared, tmp_path):
    words = ["--config.train.micro_batch=2", "--config.train.steps=3"]
    for source in ("device", "stream"):
        config = tiny_pretraining(
            tiny_prepared, f"--config.data.source={source}", *words
        )
        pretrain(config, tmp_path / source)
    held, streamed = (losses(tmp_path / source) for source in ("device", "stream"))
    assert len(held) == 3
    np.testing.assert_allclose(held, streamed, rtol=1e-5)
