"""Segmenters learn, go on where they were, answer by their average, stay frozen."""

import json
import signal
from functools import partial, partialmethod
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from brainjax.augment.labels import make_label_augmentation
from brainjax.configuration import load_config
from brainjax.errors import InputRefusedError
from brainjax.evaluate.segmentation import read_rows
from brainjax.infer.evaluation import evaluate_run, show_evaluation
from brainjax.infer.predict import predict
from brainjax.interop import export
from brainjax.models.pure import run, to_pure
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.tasks import make_task
from brainjax.train import segment
from brainjax.train.ema import EMA, move_ema, start_ema, with_ema
from brainjax.train.finetune import finetune
from brainjax.train.hooks import Terminated
from brainjax.train.restore import load_run, plan_network
from brainjax.train.segment import make_segment_update
from brainjax.train.segment_plan import plan_blueprint, plan_segmenting, start_state
from brainjax.train.segment_validation import Overlap, dice_scores
from brainjax.train.segmenter import ENCODER, Segmenter
from brainjax.train.state import make_blueprint
from brainjax.volume.recipe import make_recipe
from tests.augment.test_label_augmentation import STILL
from tests.simulated import run_simulated
from tests.train.test_resume import stop_after

CONFIGS = Path(__file__).parents[2] / "configs"
SIZE = 16


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Ten balls in FLAIR and T1w, whose bright core is id 9 and rim 10, prepared."""
    scans = tmp_path_factory.mktemp("scans")
    grid = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -8.0 * (SIZE - 1) / 2
    rng = np.random.default_rng(0)

    def save(path: Path, voxels: np.ndarray) -> None:
        image = nib.Nifti1Image(voxels.astype(np.int16), affine)
        image.set_sform(affine, 1)
        nib.save(image, path)

    for number in range(10):
        away = np.sqrt((grid**2).sum(0))
        core = np.sqrt(((grid.T - rng.uniform(-2, 2, 3)).T ** 2).sum(0))
        head, core, rim = away < 7, core < 2.5, core < 4
        name = scans / f"sub-{number:02d}"
        for sequence, bright in (("FLAIR", 300), ("T1w", 250)):
            noise = rng.uniform(80, 120, head.shape)
            save(f"{name}_{sequence}.nii.gz", (noise + bright * core) * head)
        save(f"{name}_dseg.nii.gz", np.where(core, 9, np.where(rim, 10, 0)))
    out = tmp_path_factory.mktemp("prepared") / "data"
    recipe = make_recipe("stripped", spacing=8.0, fov_mm=(128.0,) * 3)
    words = {"label_maps": "dseg", "progress": False}
    prepare(find_sources([scans]), out, recipe, **words)
    return out


def tiny(data: Path, *overrides: str):
    config = load_config(
        CONFIGS / "tasks" / "tumour.py",
        [
            f"--config.data.path={data}",
            "--config.view=12,12,12",
            "--config.data.sequences=FLAIR,T1w",
            "--config.task.classes.core=9",
            "--config.task.classes.whole=9,10",
            "--config.split.val=0.2",
            "--config.optimizer.warmup=2",
            "--config.optimizer.peak=0.02",
            "--config.train.steps=6",
            "--config.train.log_every=1",
            "--config.train.save_every=3",
            *overrides,
        ],
    ).unlock()
    # What is left of the augmentation compiles in seconds.
    config.augment.update({**STILL, "rotate": 5.0, "flip": 0.5})
    return config.lock()


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """The table's U-Net with two narrow levels."""
    from brainjax.models import segmenters
    from brainjax.models.unet import WholeUNet

    words = {"widths": (8, 8, 8), "blocks": (1, 1, 1), "decoder_blocks": (1, 1)}
    small = partialmethod(WholeUNet.__init__, **words)
    kind = type("SmallUNet", (WholeUNet,), {"__init__": small})
    monkeypatch.setitem(segmenters.SEGMENTERS, "unet", kind)


def lines_of(run: Path, key: str) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row[key] for row in rows if key in row]


@pytest.mark.slow
def test_crops_of_cases_learn_and_an_interrupted_run_is_the_same(
    labelled, tmp_path, monkeypatch
):
    config = tiny(labelled)
    whole = finetune(config, tmp_path / "whole").path
    losses = lines_of(whole, "loss")
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert len(lines_of(whole, "validation/dice_core")) == 2
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Terminated) as stopped:
            finetune(config, tmp_path / "cut")
    assert stopped.value.code == 128 + signal.SIGTERM
    cut = finetune(config, tmp_path / "cut").path
    chex.assert_trees_all_equal(load_run(whole).params, load_run(cut).params)
    assert lines_of(cut, "loss") == losses
    run = load_run(whole)
    assert run.kind == "segment"
    assert run.task.classes == ("core", "whole")
    assert run.network["sequences"] == ["FLAIR", "T1w"]
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["train_scans"] == 6
    found = evaluate_run(whole)
    assert found["n_subjects"] == 2
    names = [f"{structure}/dice" for structure in ("mean", "core", "whole")]
    assert set(names) <= set(found["metrics"])
    rows = read_rows(whole / "structures.csv")
    mean = np.mean([row.scores.dice for row in rows if row.structure == "whole"])
    assert found["metrics"]["whole/dice"]["value"] == pytest.approx(mean)
    show_evaluation(whole, found)
    (file,) = export(whole, tmp_path / "export")
    assert file.name.startswith("segmenter")
    with pytest.raises(InputRefusedError, match="use `brainjax segment`"):
        predict(whole, ["scan.nii.gz"])


ON_DEVICES = """
import sys
from brainjax.configuration import load_config
from brainjax.train.finetune import finetune

config, run, *words = sys.argv[1:]
finetune(load_config(config, words), run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_two_devices_are_one_run(labelled, tmp_path, fsdp):
    # Whole volumes: a crop that a rounding moves by a voxel would be another crop.
    words = [
        f"--config.data.path={labelled}",
        *("--config.view=16,16,16", "--config.data.sequences=FLAIR,T1w"),
        *("--config.split.val=0.2", "--config.optimizer.warmup=2"),
        *("--config.train.steps=4", "--config.train.log_every=1"),
    ]
    config = tmp_path / "config.py"
    text = (CONFIGS / "tasks" / "tumour.py").read_text()
    large = '"deep": 1'
    assert large in text
    small = '"widths": (8, 16), "blocks": (1, 1), "decoder_blocks": (1,)'
    config.write_text(text.replace(large, small))
    for devices in (1, 2):
        mesh = [f"--config.mesh.fsdp={fsdp if devices == 2 else 1}"]
        folder = tmp_path / str(devices)
        run_simulated(ON_DEVICES, devices, str(config), str(folder), *words, *mesh)
    one, two = (lines_of(tmp_path / str(devices), "loss") for devices in (1, 2))
    np.testing.assert_allclose(two, one, rtol=2e-3)
    assert len(one) == 4


@pytest.mark.slow
def test_a_run_begins_with_the_whole_network_of_another(labelled, tmp_path):
    first = tiny(labelled, "--config.train.steps=3", "--config.train.save_every=1")
    donor = finetune(first, tmp_path / "first").path
    words = f"--config.init={donor}", "--config.weights=pretrained"
    plan = plan_segmenting(tiny(labelled, *words))
    state = segment.start_state(
        segment.plan_blueprint(tiny(labelled, *words), plan), plan
    )
    for part in ("params", EMA):
        chex.assert_trees_all_equal(jax.device_get(state[part]), load_run(donor).params)
    # Of other structures: all but the layers that give logits.
    other = tiny(labelled, *words).unlock()
    other.task.classes = ConfigDict({"core": (9,), "whole": (9, 10), "rim": (10,)})
    plan = plan_segmenting(other)
    params = start_state(plan_blueprint(other, plan), plan)["params"]["segmenter"]
    given = load_run(donor).params["segmenter"]
    for name in set(params) - {"out", "deep_outs"}:
        chex.assert_trees_all_equal(jax.device_get(params[name]), given[name])
    assert params["out"]["bias"].shape[-1] * 2 == given["out"]["bias"].shape[-1] * 3
    fewer = tiny(labelled, *words, "--config.data.sequences=FLAIR").unlock()
    fewer.data.sequence_dropout = 0.0
    plan = plan_segmenting(fewer)
    with pytest.raises(InputRefusedError, match="as many sequences as this one, got 2"):
        start_state(plan_blueprint(fewer, plan), plan)


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("--config.mode=frozen", "wanted whole for segmenter unet"),
        ("--config.mode=adapters", "wanted one of whole, frozen, got 'adapters'"),
        ("--config.weights=pretrained", "init: wanted a pretraining run"),
        ("--config.ema=1.0", "config.ema: wanted 0 to under 1, got 1.0"),
        ("--config.data.sequences=T1w,T2w", "wanted scans of sequence T2w"),
        ("--config.task.classes.core=", "class core: wanted ids"),
        ("--config.data.train_subjects=99", "wanted 99, the split has"),
        ("--config.view=0", "view: wanted one or three positive, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(labelled, tmp_path, override, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        finetune(tiny(labelled, override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scans_without_label_maps_are_refused(tiny_prepared):
    words = "--config.data.sequences=T1w", "--config.data.sequence_dropout=0"
    with pytest.raises(InputRefusedError, match="wanted a scan with a label map"):
        plan_segmenting(tiny(tiny_prepared, *words))


def test_mirror_images_want_both_sides(labelled):
    config = tiny(labelled).unlock()
    config.task.classes = ConfigDict({"left_core": (9,), "rim": (10,)})
    with pytest.raises(InputRefusedError, match=r"flip: .*left_core has no other side"):
        plan_segmenting(config)
    config.augment.flip = 0.0
    assert plan_segmenting(config).task.one_sided() == ("left_core",)


def test_tissues_of_another_numbering_are_refused(labelled):
    config = tiny(labelled).unlock()
    config.task.tissues = (("white", (81,)), ("core", (10,)))
    config.synthesis = ConfigDict({"probability": 0.5, "families": (1, 0)})
    plan_segmenting(config)
    config.task.tissues = (("white", (81,)), ("cortex", (100,)))
    with pytest.raises(InputRefusedError, match="got none for 100% of its labelled"):
        plan_segmenting(config)


def test_a_frozen_part_of_the_optimizer_is_refused(labelled):
    config = tiny(labelled).unlock()
    config.optimizer.frozen = ("segmenter/stem",)
    plan = plan_segmenting(config)
    with pytest.raises(InputRefusedError, match="frozen: wanted none for a segmenta"):
        plan_blueprint(config, plan)


def test_families_must_be_those_of_the_tissues(labelled):
    config = tiny(labelled).unlock()
    config.synthesis.probability = 0.5
    wanted = "families: wanted one for each of the 0 of config.task.tissues, got 8"
    with pytest.raises(InputRefusedError, match=wanted):
        plan_segmenting(config)


def test_not_a_leaf_or_statistic_of_a_frozen_encoder_moves(monkeypatch):
    def plain(volumes, *_, **__):
        return volumes[:, 0, ..., None] / 255.0, volumes[:, 1]

    monkeypatch.setattr(segment, "labelled_views", plain)  # compiles in no time
    task = make_task("segmentation", classes={"core": (9,)})
    words = {"peak": 0.1, "steps": 4, "weight_decay": 0.1}
    optimizer = make_optimizer(frozen=[ENCODER], **words)
    blueprint = with_ema(
        make_blueprint(_frozen_network, optimizer, make_mesh(), seed=0)
    )
    augmentation = make_label_augmentation(view=8, **STILL)
    update = make_segment_update(blueprint, augmentation, task, seed=0, ema=0.9)
    volumes = np.random.default_rng(0).integers(1, 255, (2, 2, 8, 8, 8))
    volumes[:, 1] = volumes[:, 0] > 120
    batch = {
        "volumes": jnp.asarray(volumes, jnp.uint8),
        "positions": jnp.arange(2),
        "weights": jnp.ones(2),
        "targets": jnp.zeros(2),
        "subjects": jnp.arange(2),
    }
    state = blueprint.initialise()
    before = jax.device_get(state)
    for _ in range(2):
        state, _ = update(state, batch)
    after = jax.device_get(state)
    for part in ("params", EMA, "batch_stats"):
        old, new = (tree[part]["segmenter"] for tree in (before, after))
        chex.assert_trees_all_equal(old["encoder"], new["encoder"])
    out = [tree["params"]["segmenter"]["out"]["kernel"] for tree in (before, after)]
    assert np.abs(out[0] - out[1]).max() > 0.01


def _frozen_network(seed):
    encoder = {"init_filters": 4, "blocks": (1, 1)}
    words = {"name": "segresnet", "shape": (8, 8, 8), "encoder": encoder}
    rngs = nnx.Rngs(jax.random.key(seed))
    return Segmenter(segmenter=words, outputs=1, frozen=True, rngs=rngs)


def test_no_gradient_of_a_frozen_encoder_is_even_computed():
    pure = to_pure(_frozen_network(0))
    view = jnp.ones((1, 8, 8, 8, 1))

    text = str(jax.make_jaxpr(jax.grad(partial(_sum, pure, view)))(pure.params))
    thawed = to_pure(_thawed_network())
    other = str(jax.make_jaxpr(jax.grad(partial(_sum, thawed, view)))(thawed.params))
    count = "conv_general_dilated"
    assert text.count(count) < other.count(count)


def _thawed_network():
    network = _frozen_network(0)
    network.frozen = False
    return network


def _sum(pure, view, params):
    return run(pure.graphdef, params, pure.batch_stats, view, train=True)[
        0
    ].logits.sum()


def test_the_average_moves_by_its_decay_and_not_in_a_skipped_step():
    state = start_ema({"params": {"w": jnp.zeros(3)}, "step": 100, "skipped": 0})
    state |= {"step": jnp.int32(100), "skipped": jnp.int32(0)}
    after = {**state, "params": {"w": jnp.ones(3)}, "step": jnp.int32(101)}
    moved = move_ema(after, state, 0.9)
    np.testing.assert_allclose(moved[EMA]["w"], 0.1, rtol=1e-6)
    skipped = move_ema({**after, "skipped": jnp.int32(1)}, state, 0.9)
    assert (skipped[EMA]["w"] == 0).all()


def test_the_dice_of_what_nobody_has_is_nan():
    found = dice_scores(
        [Overlap(*np.array([[2, 0, 0], [4, 0, 3], [4, 0, 0]], float), np.float32(0))]
    )
    np.testing.assert_array_equal(found, [[0.5, np.nan, 0.0]])


@pytest.mark.parametrize(
    ("segmenter", "encoder"),
    [
        ("unetr", {"name": "vit", "patch": 8, "width": 24, "depth": 4, "heads": 2}),
        ("segresnet", {"name": "segresnet", "init_filters": 4, "blocks": [1, 1]}),
    ],
)
def test_a_pretrained_encoder_has_the_leaves_that_a_segmenter_wants(segmenter, encoder):
    encoder = {**encoder, "shape": [16, 16, 16]}
    projector = {"hidden": 8, "out": 4}
    donor = plan_network("pretrain", {"encoder": encoder, "projector": projector})
    words = {"name": segmenter, "shape": [16, 16, 16], "encoder": encoder}
    network = {"segmenter": words, "outputs": 2, "frozen": True}
    ours = plan_network("segment", network)
    chex.assert_trees_all_equal_shapes(
        donor.params["encoder"], ours.params["segmenter"]["encoder"]
    )
    views = jax.ShapeDtypeStruct((1, 16, 16, 16, 1), jnp.float32)
    call = partial(run, ours.graphdef, train=True)
    found, _ = jax.eval_shape(call, ours.params, ours.batch_stats, views)
    assert found.logits.shape == (1, 16, 16, 16, 2)
