"""Cases of several sequences: each in its place, missing ones never in the way."""

import csv
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import fit_guards
from brainjax.evaluate.features import answer_scans, make_answer, make_encode
from brainjax.evaluate.guards import FILE
from brainjax.infer.predict import predict
from brainjax.infer.together import answer_together, choose_scans
from brainjax.models import to_pure
from brainjax.records.sources import Source
from brainjax.tasks import make_task
from brainjax.train.restore import Run, make_network
from brainjax.volume.recipe import make_recipe
from tests.conftest import write_scan

ENCODER = {
    "name": "vit",
    "shape": [24, 24, 24],
    "patch": 12,
    "width": 24,
    "depth": 1,
    "heads": 3,
    "dtype": "float32",
}
TASK = make_task("classification", target="idh").fit(["mutant", "wildtype"])


def make_run(folder: Path, fusion: str = "concat", **words: Any) -> Run:
    """A run that has learnt nothing, of two named sequences."""
    network: dict[str, Any] = {
        "encoder": ENCODER,
        "head": {},
        "outputs": 2,
        "frozen": False,
        "inputs": 2,
        "sequences": ["FLAIR", "T1CE"],
        "fusion": fusion,
        **words,
    }
    made = to_pure(make_network("finetune", network, seed=0))
    # A head begins with zeros, and would answer everything alike.
    rng = np.random.default_rng(0)
    head = made.params["head"]["linear"]
    head["kernel"] = rng.normal(size=head["kernel"].shape).astype(np.float32)
    return Run(
        folder=folder,
        kind="finetune",
        network=network,
        view=(24, 24, 24),
        recipe=make_recipe(spacing=8.0),
        task=TASK,
        graphdef=made.graphdef,
        params=made.params,
        batch_stats=made.batch_stats,
        step=1,
        checkpoint="abc",
        subjects=[],
    )


def source(path: str, sequence: str | None, subject: str = "sub-1") -> Source:
    return Source(path, subject, None, sequence)


FLAIR, T1CE = source("a_FLAIR", "FLAIR"), source("a_T1CE", "T1CE")
FEATURES = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
NAMES = ("FLAIR", "T1CE")


@pytest.mark.parametrize("fusion", ["mean", "attention", "concat"])
def test_scans_are_placed_by_sequence_whatever_their_order(fusion, tmp_path):
    run = make_run(tmp_path, fusion)
    joint, found, failures = answer_together(run, [FLAIR, T1CE], FEATURES[:2])
    turned, same, _ = answer_together(run, [T1CE, FLAIR], FEATURES[1::-1])
    assert not failures
    assert joint == turned
    assert joint[0][:4] == ("a_FLAIR+a_T1CE", "sub-1", None, "FLAIR+T1CE")
    np.testing.assert_allclose(found.outputs, same.outputs, rtol=1e-6)
    np.testing.assert_allclose(found.features[0], FEATURES[:2].mean(0), rtol=1e-6)


@pytest.mark.parametrize("fusion", ["mean", "attention", "concat"])
def test_a_missing_sequence_is_answered_without(fusion, tmp_path):
    run = make_run(tmp_path, fusion)
    other = source("b_T1CE", "T1CE", "sub-2")
    joint, found, failures = answer_together(run, [FLAIR, T1CE, other], FEATURES)
    assert not failures
    assert [row.sequence for row in joint] == ["FLAIR+T1CE", "T1CE"]
    assert np.isfinite(found.outputs).all()
    _, alone, _ = answer_together(run, [other], FEATURES[2:])
    np.testing.assert_allclose(found.outputs[1], alone.outputs[0], rtol=1e-5)
    np.testing.assert_allclose(found.features[1], FEATURES[2], rtol=1e-6)


def test_a_run_without_names_wants_as_many_scans_as_inputs(tmp_path):
    run = make_run(tmp_path, "mean", sequences=[])
    other = source("b_T1CE", "T1CE", "sub-2")
    joint, found, failures = answer_together(run, [FLAIR, T1CE, other], FEATURES)
    assert [row.subject for row in joint] == ["sub-1"]
    assert failures == [("b_T1CE", "wanted 2 scans of sub-2, got 1")]
    named = answer_together(make_run(tmp_path, "mean"), [FLAIR, T1CE], FEATURES[:2])
    np.testing.assert_allclose(found.outputs, named[1].outputs, rtol=1e-5)


def test_scans_that_no_answer_needs_are_left_out_with_a_warning(caplog):
    again, t2 = source("b_FLAIR", "FLAIR"), source("a_T2w", "T2w")
    with caplog.at_level(logging.WARNING, "brainjax"):
        chosen, failures = choose_scans([again, FLAIR, t2, T1CE], NAMES)
    assert chosen == [FLAIR, T1CE]
    assert not failures
    assert "leaving out 2 scans beside one FLAIR and one T1CE" in caplog.text


def test_scans_that_no_answer_can_come_from_are_failures():
    alone, silent = source("c_T2w", "T2w", "sub-3"), source("d", None, "sub-4")
    chosen, failures = choose_scans([alone, silent, FLAIR], NAMES)
    assert chosen == [FLAIR]
    assert sorted(failures) == [
        ("c_T2w", "wanted a scan of one of FLAIR, T1CE, got T2w"),
        ("d", "wanted a scan of one of FLAIR, T1CE, got one that does not say"),
    ]
    assert choose_scans([alone, silent], ()) == ([alone, silent], [])


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_one_pass_over_cases_is_what_predict_does_scan_by_scan(fusion, tmp_path):
    run = make_run(tmp_path, fusion)
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, 256, (3, 2, 24, 24, 24)).astype(np.uint8)
    volumes[1, 0] = 0
    whole = answer_scans(
        make_answer(run.graphdef, view=run.view), run.params, run.batch_stats, volumes
    )
    encode = partial(make_encode(run.graphdef, view=run.view), run.params)
    scans = [(i, s) for i in range(3) for s in range(2) if (i, s) != (1, 0)]
    features = np.concatenate(
        [encode(run.batch_stats, volumes[i, s][None]) for i, s in scans]
    )
    sources = [source(f"{i}{s}", NAMES[s], f"sub-{i}") for i, s in scans]
    _, found, _ = answer_together(run, sources, features)
    np.testing.assert_allclose(found.outputs, whole.outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.features, whole.features, rtol=1e-4, atol=1e-5)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    names = ("sub-1_FLAIR", "sub-1_T1CE", "sub-2_FLAIR")
    for number, name in enumerate(names):
        write_scan(folder / f"{name}.nii.gz", seed=number)
    return folder


def test_predict_guards_what_it_answers_for_cases(scans, tmp_path, capsys):
    run = make_run(tmp_path)
    rng = np.random.default_rng(0)
    outputs, values = rng.normal(size=(20, 2)), ["mutant", "wildtype"] * 10
    features = rng.normal(size=(30, 24))
    guards = fit_guards(TASK, outputs, values, features, checkpoint="abc")
    guards.save(tmp_path / FILE)
    out = tmp_path / "answers.csv"
    assert predict(run, [str(scans)], out=out) == []
    rows = rows_of(out)
    assert [row["sequence"] for row in rows] == ["FLAIR+T1CE", "FLAIR"]
    assert rows[0]["prediction"] in rows[0]["prediction_set"].split("|")
    assert {row["in_distribution"] for row in rows} <= {"yes", "no"}
    assert float(rows[0]["calibrated_mutant"]) < 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("Research use only")
    assert "unlike those of training" in said


def test_predict_says_that_a_run_has_no_guards(scans, tmp_path, capsys):
    out = tmp_path / "answers.csv"
    predict(make_run(tmp_path), [str(scans)], out=out)
    assert "no guards.npz" in capsys.readouterr().err
    assert "ood_score" not in rows_of(out)[0]


def test_predict_refuses_guards_of_another_checkpoint_before_it_reads_a_scan(tmp_path):
    run = make_run(tmp_path)
    guards = fit_guards(TASK, np.zeros((2, 2)), ["mutant", None], np.eye(3))
    guards.save(tmp_path / FILE)
    with pytest.raises(
        InputRefusedError, match="for checkpoint abc, got those of none"
    ):
        predict(run, ["nowhere.nii.gz"])


def test_one_named_sequence_refuses_another(scans, tmp_path):
    run = make_run(tmp_path, inputs=1, sequences=["T1CE"])
    out = tmp_path / "answers.csv"
    failures = predict(run, [str(scans)], out=out)
    assert [row["sequence"] for row in rows_of(out)] == ["T1CE"]
    assert [Path(path).name for path, _ in failures] == ["sub-2_FLAIR.nii.gz"]
