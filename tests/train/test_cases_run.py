"""Subjects with several sequences, through a whole run; stages of training."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import make_augmentation
from brainjax.configuration import to_dict
from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import answer_scans, make_answer
from brainjax.evaluate.guards import Guards
from brainjax.interop.export import export
from brainjax.interop.stablehlo import make_program
from brainjax.interop.trees import flatten
from brainjax.models.pure import run as run_pure
from brainjax.models.pure import to_pure
from brainjax.parallel import make_mesh
from brainjax.records.cases import Cases, open_cases
from brainjax.train.finetune import finetune
from brainjax.train.input import open_input
from brainjax.train.restore import (
    encoder_params,
    load_run,
    make_network,
    without_adapters,
)
from brainjax.train.staged import Stage, StagedInput
from brainjax.train.views import drop_sequences, single_views
from tests.conftest import write_scan
from tests.train.configs import tiny_finetuning

ENCODER = {"name": "vit", "patch": 12, "width": 12, "depth": 1, "heads": 3}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Sixteen subjects of two sequences, of which every third lacks the second."""
    from brainjax.records.prepare import prepare
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    folder = tmp_path_factory.mktemp("sequences")
    lines = ["participant_id\tage\tsex"]
    for number in range(16):
        name, size = f"sub-{number:02d}", 0.8 + 0.02 * number
        for shift, sequence in enumerate(("T1w", "FLAIR")[: 1 + bool(number % 3)]):
            path = folder / "scans" / f"{name}_{sequence}.nii.gz"
            write_scan(path, seed=number + 50 * shift, size=size)
        lines.append(f"{name}\t{30 + 2 * number}\t{'FM'[number % 2]}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    out = folder / "prepared"
    sources = find_sources([folder / "scans"])
    table = folder / "participants.tsv"
    prepare(sources, out, make_recipe(spacing=8.0), labels=table, progress=False)
    return out


def config(prepared, *overrides: str, **more):
    words = ["--config.weights=random", "--config.view=24,24,24", *overrides]
    made = tiny_finetuning(prepared, "", *words)
    with made.unlocked():
        made.encoder = ENCODER
        made.adapters = {"rank": 1}
        for key, value in more.items():
            old = to_dict(made).get(key)
            made[key] = {**old, **value} if isinstance(old, dict) else value
    return made


@pytest.fixture(scope="module")
def cases_run(prepared, tmp_path_factory):
    """A run on cases with everything that is new, but for a pretrained encoder."""
    made = config(
        prepared,
        "--config.mode=adapters",
        fusion="attention",
        head={"pool": "attention", "hidden": 4},
        data={
            "train_subjects": 0,
            "sequences": ("T1w", "FLAIR"),
            "sequence_dropout": 0.3,
            "balance": "bins",
            "balance_after": 3,
        },
    )
    return finetune(made, tmp_path_factory.mktemp("run") / "cases")


def test_a_run_on_cases_keeps_all_that_its_answers_depend_on(cases_run, prepared):
    run = load_run(cases_run.path)
    assert run.network["sequences"] == ["T1w", "FLAIR"]
    assert run.network["inputs"] == 2
    assert set(run.params) == {"encoder", "pool", "fusion", "head", "adapters"}
    summary = json.loads(cases_run.summary.read_text())
    assert summary["encoder_mode"] == "adapters"
    assert any(np.any(leaf) for leaf in jax.tree.leaves(run.params["adapters"]))


def test_a_missing_sequence_does_not_count_in_a_runs_answer(cases_run, prepared):
    run = load_run(cases_run.path)
    cases = open_cases(prepared, run.network["sequences"])
    assert isinstance(cases, Cases)
    volumes = [cases.read(i) for i in range(4)]
    assert cases.present[:4].tolist() == [
        [True, False],
        *[[True, True]] * 2,
        [True, False],
    ]
    answer = make_answer(run.graphdef, view=run.view)
    found = answer_scans(answer, run.params, run.batch_stats, volumes, batch=4)
    # The same features with anything in a missing one's place give the same answer.
    again = np.repeat(np.asarray(found.features)[:1, None], 2, axis=1)
    again[:, 1] = 1e9
    outputs, _ = run_pure(
        run.graphdef,
        run.params,
        run.batch_stats,
        jnp.asarray(again),
        jnp.array([[True, False]]),
        train=False,
        method="answer",
    )
    np.testing.assert_allclose(outputs, found.outputs[:1], atol=1e-5)


def test_every_way_out_has_adapters_and_fusion(cases_run, prepared, tmp_path):
    run = load_run(cases_run.path)
    cases = open_cases(prepared, run.network["sequences"])
    volumes = np.stack([cases.read(i) for i in range(4)])
    answer = make_answer(run.graphdef, view=run.view)
    wanted = answer_scans(answer, run.params, run.batch_stats, volumes, batch=4)
    weights = flatten({"params": run.params, "batch_stats": run.batch_stats})
    found = jax.jit(make_program(run))(weights, volumes)
    assert run.task is not None
    prediction = run.task.columns(np.asarray(wanted.outputs))["prediction"]
    np.testing.assert_allclose(found["prediction"], prediction, rtol=1e-4)
    with pytest.raises(InputRefusedError, match="pool, fusion, hidden layer; use"):
        export(run, tmp_path)
    plain = without_adapters(run)
    again = answer_scans(
        make_answer(plain.graphdef, view=run.view),
        plain.params,
        plain.batch_stats,
        volumes,
        batch=4,
    )
    np.testing.assert_allclose(again.outputs, wanted.outputs, atol=1e-5)


def test_guards_are_of_the_best_step(cases_run):
    run = load_run(cases_run.path)
    guards = Guards.load(cases_run.guards, checkpoint=run.checkpoint)
    assert run.task is not None
    assert guards.task == json.loads(json.dumps(run.task.to_dict()))
    assert guards.reference is not None


def test_the_encoder_under_adapters_stays_and_gives_them_on(cases_run):
    run = load_run(cases_run.path)
    started = to_pure(make_network("finetune", run.network, seed=0)).params
    chex.assert_trees_all_close(started["encoder"], run.params["encoder"], rtol=1e-6)
    merged = encoder_params(run)
    kernel = run.params["encoder"]["blocks"]["qkv"]["kernel"]
    assert np.abs(merged["blocks"]["qkv"]["kernel"] - kernel).max() > 0


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"data": {"sequences": ("T1w", "T2w")}}, "wanted scans of sequence T2w"),
        ({"data": {"balance": "classes"}}, "balance: .* got 'classes'"),
        ({"data": {"weather": 1}}, "config.data.weather: there is no such key"),
        ({"task": {"target": "sex"}}, "prepared: target 'sex': wanted numbers"),
        ({"fusion": "sum", "data": {"sequences": ("T1w", "FLAIR")}}, "fusion: .* sum"),
    ],
)
def test_what_does_not_fit_is_one_line(more, wanted, prepared, tmp_path):
    with pytest.raises(InputRefusedError, match=wanted) as caught:
        finetune(config(prepared, **more), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_every_sequence_is_augmented_by_itself_and_a_missing_one_stays_zero(prepared):
    cases = open_cases(prepared, ("T1w", "FLAIR"))
    volumes = jnp.asarray(np.stack([np.stack([cases.read(1)[0]] * 2), cases.read(0)]))
    augmentation = make_augmentation(view=24, crop=(0.8, 1.0), brightness=0.5)
    mesh = make_mesh()
    see = jax.jit(lambda v, p: single_views(v, p, augmentation, mesh, seed=0))
    views = see(volumes, jnp.arange(2))
    assert views.shape == (2, 2, 24, 24, 24, 1)
    assert np.abs(views[0, 0] - views[0, 1]).max() > 0.1
    assert np.asarray(views[1, 0]).any()
    assert not np.asarray(views[1, 1]).any()


def test_dropping_sequences_leaves_one_that_is_there():
    present = jnp.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    views = jnp.where(present[:, :, None, None, None, None], 1.0, 0.0)
    drop = jax.jit(lambda p: drop_sequences(views, p, rate=0.7, seed=0))
    kept = []
    for start in range(0, 400, 4):
        kept.append(np.asarray(drop(start + jnp.arange(4)))[..., 0, 0, 0, 0] > 0)
    kept = np.stack(kept)
    assert not (kept & ~np.asarray(present)).any()
    assert (kept.any(axis=2) == np.asarray(present).any(axis=1)).all()
    # 0.3 of each, and a third of the times when all would have gone.
    assert abs(kept[:, 0].mean() - (0.3 + 0.7**3 / 3)) < 0.1
    np.testing.assert_array_equal(drop(jnp.arange(4)), drop(jnp.arange(4)))


def records(scans, steps: int) -> list[list[int]]:
    found = [np.asarray(next(scans)["targets"]).tolist() for _ in range(steps)]
    scans.close()
    return found


def test_stages_follow_each_other_and_resume_anywhere(prepared):
    dataset = open_cases(prepared, ("T1w", "FLAIR"))
    numbers = np.arange(len(dataset))

    def open_stage(indices, start_step):
        labels = numbers, np.ones(len(numbers), np.float32)
        words = {"batch": 4, "seed": 0, "mesh": make_mesh(), "labels": labels}
        return open_input(dataset, indices, start_step=start_step, **words)

    stages = [Stage(0, numbers), Stage(3, np.array([1, 1, 2]))]
    whole = records(StagedInput(open_stage, stages, 0), 6)
    for start in (2, 3, 5):
        assert (
            records(StagedInput(open_stage, stages, start), 6 - start) == whole[start:]
        )
    assert {n for step in whole[3:] for n in step} == {1, 2}
    assert len({n for step in whole[:3] for n in step}) == 12
    assert records(open_stage(numbers, 0), 3) == whole[:3]
