"""Runs that differ in their seed have the same programs: each is compiled once."""

import jax
import numpy as np

from brainjax.train.pretrain import plan_pretraining
from tests.train.configs import tiny_pretraining


def test_the_seed_is_an_argument_of_the_start(tiny_prepared):
    starts = [
        plan_pretraining(tiny_pretraining(tiny_prepared, f"--config.seed={seed}"))
        for seed in (0, 1)
    ]
    one, other = (start.initialise for start in starts)
    texts = {start.func.lower(*start.args).as_text() for start in (one, other)}
    assert len(texts) == 1
    leaves = zip(
        *(jax.tree.leaves(start()["params"]) for start in (one, other)), strict=True
    )
    assert any(not np.array_equal(a, b) for a, b in leaves)
