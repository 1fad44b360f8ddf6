"""Every config builds, without a byte of it being allocated."""

from pathlib import Path

import jax
import pytest
from flax import nnx

from brainjax.augment import make_augmentation
from brainjax.configuration import construct, load_config, to_dict
from brainjax.models.pure import count_parameters
from brainjax.optim import make_optimizer
from brainjax.tasks import Segmentation, make_task
from brainjax.train.pretrain import plan_pretraining
from brainjax.train.restore import make_network
from brainjax.train.segment_plan import plan_augmentation
from brainjax.train.selection import Selection

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted([*CONFIGS.glob("*.py"), *(CONFIGS / "tasks").glob("*.py")])
QUICKSTART = load_config(CONFIGS / "quickstart_age.py")
TINY = {"name": "vit", "shape": [32, 32, 32], "width": 24, "depth": 1, "heads": 2}
PRETRAINING = [path for path in FILES if "projector" in path.read_text()]
SEGMENTING = [path for path in FILES if "segmenter" in path.read_text()]
FINETUNING = [path for path in FILES if path not in (*PRETRAINING, *SEGMENTING)]


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_a_pretraining_config_builds(path):
    config = load_config(path)
    blueprint = plan_pretraining(config)
    leaves = jax.tree.leaves(blueprint.abstract)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert count_parameters(blueprint.abstract["params"]["encoder"]) > 100_000
    make_augmentation(view=config.view, **config.augment)


@pytest.mark.parametrize("path", FINETUNING, ids=lambda path: path.stem)
def test_a_finetuning_config_builds(path):
    config = load_config(path)
    make_augmentation(view=tuple(config.view) or 48, **config.augment)
    selection = construct("data", Selection, **config.data).check()
    construct("optimizer", make_optimizer, steps=config.train.steps, **config.optimizer)
    assert construct("task", make_task, **config.task).target == config.task.target
    if config.encoder:
        encoder = {"shape": list(config.view), **to_dict(config.encoder)}
        network = {"encoder": encoder, "head": to_dict(config.head)}
        jax.eval_shape(lambda: make_network_leaves(network))
    if path.parent.name == "tasks":
        assert set(config.split.keys()) == set(QUICKSTART.split.keys())
        inputs = {"inputs": len(selection.sequences) or 1, "fusion": config.fusion}
        parts = {"head": to_dict(config.head), "adapters": to_dict(config.adapters)}
        network = {"encoder": TINY, **parts, **inputs}
        jax.eval_shape(lambda: make_network_leaves(network))


@pytest.mark.parametrize("path", SEGMENTING, ids=lambda path: path.stem)
def test_a_segmentation_config_builds(path):
    config = load_config(path)
    task = construct("task", make_task, **config.task)
    assert isinstance(task, Segmentation)
    view = tuple(config.view) or (32, 32, 32)
    augmentation = plan_augmentation(config, task, view)
    assert augmentation.view == view
    selection = construct("data", Selection, **config.data).check()
    construct("optimizer", make_optimizer, steps=config.train.steps, **config.optimizer)
    network = {
        "segmenter": {**to_dict(config.segmenter), "shape": list(view)},
        "outputs": task.outputs,
        "sequences": list(selection.sequences),
    }
    jax.eval_shape(
        lambda: jax.tree.leaves(nnx.state(make_network("segment", network, seed=0)))
    )


def make_network_leaves(network: dict) -> list:
    keywords = {**network, "outputs": 1, "frozen": False}
    return jax.tree.leaves(nnx.state(make_network("finetune", keywords, seed=0)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_config_says_how_to_run_it_in_a_hundred_lines(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 100
    place = path.relative_to(CONFIGS.parent).as_posix()
    assert f"--config {place}" in text.split('"""')[1]
