"""A brain-mask run given as weights: what ships answers as the run did."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.interop.export import export
from brainjax.models import to_pure
from brainjax.models.pure import run as run_network
from brainjax.tasks import Segmentation
from brainjax.train.restore import Run, hash_subject, make_network
from brainjax.volume import brain_own
from brainjax.volume.brain_network import read_weights, segment
from brainjax.volume.brain_own import FACT, RECIPE, WEIGHTS
from brainjax.volume.recipe import make_recipe

VIEW = (10, 8, 6)
FOV = (192.0, 224.0, 192.0)


@pytest.fixture(scope="module")
def run() -> Run:
    """A run of a small U-Net with a deeper output and drawn parameters."""
    segmenter = {
        "name": "unet",
        "shape": list(VIEW),
        "widths": [8, 8, 12],
        "blocks": [1, 1, 1],
        "decoder_blocks": [1, 1],
        "deep": 1,
    }
    network = {"segmenter": segmenter, "outputs": 1, "frozen": False, "sequences": []}
    made = to_pure(make_network("segment", network, seed=0))
    drawn = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + drawn.normal(0, 0.1, leaf.shape).astype(np.float32),
        made.params,
    )
    return Run(
        folder=Path("runs/mask"),
        kind="segment",
        network=network,
        view=VIEW,
        recipe=make_recipe("raw_head", spacing=2, fov_mm=FOV),
        task=Segmentation.make(classes={"brain": [1, 2, 3]}),
        graphdef=made.graphdef,
        params=params,
        batch_stats=made.batch_stats,
        step=7,
        checkpoint="0123456789ab",
        subjects=["IXI013", "IXI014"],
    )


def test_the_weights_answer_as_the_run_did(run, tmp_path):
    (path,) = export(run, tmp_path, to="brain_mask")
    volume = np.random.default_rng(1).standard_normal((*VIEW, 1)).astype(np.float32)
    halves = jax.tree.map(lambda leaf: leaf.astype(np.float16), run.params)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), halves)
    answer = jax.jit(partial(run_network, run.graphdef, train=False))
    (expected, _), _ = answer(params, run.batch_stats, volume[None])
    found = segment(read_weights(path).weights, volume)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected[0], atol=1e-4)


def test_the_file_says_what_it_is_and_repeats(run, tmp_path, monkeypatch):
    (path,) = export(run, tmp_path / "one", to="brain_mask")
    (again,) = export(run, tmp_path / "two", to="brain_mask")
    assert path.read_bytes() == again.read_bytes()
    monkeypatch.setattr(brain_own, "WEIGHTS", path)
    facts = brain_own.weights_facts()
    assert facts["checkpoint"] == "0123456789ab"
    assert facts["recipe"] == RECIPE.to_dict()
    assert facts["subjects"] == sorted(map(hash_subject, run.subjects))
    assert "IXI013" not in path.read_bytes().decode("latin-1")
    assert facts["licence"] == "CC BY-SA 3.0"
    assert not any(key.startswith("deep") for key in read_weights(path).weights)
    with pytest.raises(InputRefusedError, match="is there already"):
        export(run, tmp_path / "one", to="brain_mask")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "finetune"}, "wanted a segmentation run, got one of kind finetune"),
        (
            {"recipe": make_recipe("raw_head", spacing=2)},
            r"recipe raw_head \(96x112x96",
        ),
        ({"network": {"segmenter": {"name": "unetr"}, "outputs": 2}}, "got unetr of 1"),
    ],
)
def test_runs_that_find_no_brain_are_refused(words, message, run, tmp_path):
    with pytest.raises(InputRefusedError, match=message):
        export(run._replace(**words), tmp_path, to="brain_mask")
    assert list(tmp_path.iterdir()) == []


def test_numbers_beyond_float16_are_refused(run, tmp_path):
    params = jax.tree.map(lambda leaf: leaf * np.float32(1e7), run.params)
    with pytest.raises(InputRefusedError, match="wanted what float16 holds"):
        export(run._replace(params=params), tmp_path, to="brain_mask")


def test_the_weights_that_ship_have_their_licence_beside_them():
    text = (WEIGHTS.parent / "LICENSE.md").read_text()
    assert all(word in text for word in ("CC BY-SA 3.0", "IXI", "DLMUSE", WEIGHTS.name))
    weights, facts = read_weights(WEIGHTS)
    assert WEIGHTS.stat().st_size < 5_000_000
    assert sum(array.size for array in weights.values()) < 1_200_000
    about = json.loads(facts[FACT])
    assert about["recipe"] == RECIPE.to_dict()
    assert about["licence"] == "CC BY-SA 3.0"
