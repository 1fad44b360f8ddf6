"""Segmentation runs that have learnt nothing, or just enough to find a landmark."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainjax.models import to_pure
from brainjax.tasks import Segmentation
from brainjax.train.restore import Run, plan_network
from brainjax.volume.recipe import make_recipe

TASK = Segmentation.make(classes=(("left_a", [1]), ("right_a", [2]), ("b", [3])))
VIEW = (24, 24, 24)


def make_run(
    folder: Path, *, task=TASK, view=VIEW, recipe=None, sequences=(), **words: Any
) -> Run:
    """A run of a small U-Net with drawn parameters."""
    network: dict[str, Any] = {
        "segmenter": {
            "name": "unet",
            "shape": list(view),
            "widths": [8, 8],
            "blocks": [1, 1],
            "decoder_blocks": [1],
            **words,
        },
        "outputs": task.outputs,
        "frozen": False,
        "sequences": list(sequences),
    }
    made, params = draw("segment", network)
    return Run(
        folder=folder,
        kind="segment",
        network=network,
        view=view,
        recipe=recipe or make_recipe(spacing=8.0),
        task=task,
        graphdef=made.graphdef,
        params=params,
        batch_stats=made.batch_stats,
        step=1,
        checkpoint="abc",
        subjects=[],
    )


def draw(kind: str, network: dict[str, Any]) -> tuple[Any, Any]:
    """A network's structure, and parameters of chance: quicker than its own start."""
    made = plan_network(kind, network)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), made.params
    )
    return made, params


class Bright(nnx.Module):
    """Answers class 1 where the first sequence is bright, else nothing."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.gain = nnx.Param(jnp.array([-20.0, 20.0, 0.0, 0.0]))
        self.level = nnx.Param(jnp.array(2.2))

    def __call__(self, volumes):
        """Gives logits."""
        return (volumes[..., :1] - self.level[...]) * self.gain[...]


def bright_run(folder: Path, **words: Any) -> Run:
    """A run that outlines what is bright: a landmark on one side."""
    run = make_run(folder, **words)
    made = to_pure(Bright(rngs=nnx.Rngs(0)))
    return run._replace(graphdef=made.graphdef, params=made.params)
