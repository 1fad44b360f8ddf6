"""A run of several processes equals that of one, and ends when one of them is lost."""

import json
import signal
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brainjax.train.pretrain import plan_pretraining
from brainjax.train.restore import load_run
from tests.train.configs import tiny_pretraining
from tests.train.processes import end, flip_newest, losses, saved_steps, send, start

QUIET = ["--config.probe.every=1000", "--config.data.source=stream"]
LONG = [*QUIET, "--config.train.steps=4000", "--config.train.save_every=4"]


def good(done) -> None:
    assert [code for code, _ in done] == [0] * len(done), done


def check_close(run, other, data):
    """Same losses, and parameters that went the same way.

    Of a parameter without influence Adam makes a step out of mere rounding; so the way
    is compared as a whole.
    """
    np.testing.assert_allclose(losses(run), losses(other), rtol=5e-4)
    left, right = load_run(run), load_run(other)
    assert left.step == right.step
    begun = plan_pretraining(tiny_pretraining(data)).initialise()["params"]
    way, apart = (
        float(optax.tree.norm(jax.tree.map(jnp.subtract, left.params, place)))
        for place in (begun, right.params)
    )
    assert apart < 0.02 * way, (apart, way)


def check_equal(run, other):
    assert losses(run) == losses(other)
    left, right = load_run(run), load_run(other)
    assert left.step == right.step
    chex.assert_trees_all_equal(left.params, right.params)


@pytest.mark.slow
def test_two_processes_are_one_run_and_want_one_config(tiny_prepared, tmp_path):
    one, run = tmp_path / "one", tmp_path / "two"
    alone = start(tiny_prepared, one, *QUIET)
    good(end([*alone, *start(tiny_prepared, run, *QUIET, processes=2)]))
    check_close(run, one, tiny_prepared)
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in run.iterdir()} == names

    other = {1: ["--config.optimizer.peak=0.5"]}
    done = end(start(tiny_prepared, run, *QUIET, processes=2, only=other))
    for number, (code, lines) in enumerate(done):
        assert code == 2
        assert lines[-1].startswith(f"brainjax pretrain: process {number} of 2: ")
        assert lines[-1].endswith(
            "config: wanted the same on every process, got optimizer.peak = 0.0001 on "
            "process 0 and 0.5 on process 1"
        )


@pytest.mark.slow
def test_four_processes_that_split_the_parameters_are_one_run(tiny_prepared, tmp_path):
    # The probe encodes with parameters that no process holds whole.
    probe = "--config.probe.every=3"
    one, four = tmp_path / "one", tmp_path / "four"
    good(end(start(tiny_prepared, one, probe)))
    good(
        end(start(tiny_prepared, four, probe, "--config.mesh.fsdp=2", processes=4), 200)
    )
    check_close(four, one, tiny_prepared)
    features = [np.load(run / "embeddings.npz")["features"] for run in (one, four)]
    np.testing.assert_allclose(*features, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_two_processes_stream_micro_batches_twice(tiny_prepared, tmp_path):
    cut = [*QUIET, "--config.train.micro_batch=2"]
    one, two = tmp_path / "one", tmp_path / "two"
    good(end(start(tiny_prepared, one, *QUIET)))
    good(end(start(tiny_prepared, two, *cut, processes=2)))
    check_close(two, one, tiny_prepared)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_stops_the_other(lost, tiny_prepared, tmp_path):
    started = start(tiny_prepared, tmp_path / "run", *LONG, processes=2)
    send(started, tmp_path / "run", to=lost, sign=signal.SIGKILL)
    began = time.monotonic()
    done = end(started)
    assert time.monotonic() - began < 90
    code, lines = done[1 - lost]
    assert (code, done[lost][0]) == (1, -signal.SIGKILL)
    assert f"process {1 - lost} of 2: stopped, because another process" in lines[-1]
    load_run(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0, 1])
def test_an_error_of_one_process_stops_all_with_its_reason(
    fails, tiny_prepared, tmp_path
):
    only = {fails: ["--config.data.path=/nowhere"]}
    began = time.monotonic()
    done = end(start(tiny_prepared, tmp_path / "r", *LONG, processes=2, only=only))
    assert time.monotonic() - began < 60
    assert [code for code, _ in done] == [2, 2]
    reason = f"process {fails} of 2: /nowhere: wanted a prepared data set"
    assert f"brainjax pretrain: {reason}" in done[fails][1][-1]
    assert f"process {1 - fails} of 2: stopped with {reason}" in done[1 - fails][1][-1]


@pytest.mark.slow
def test_sigterm_to_one_of_two_saves_one_step_and_the_resumed_run_is_the_same(
    tiny_prepared, tmp_path
):
    words = [*QUIET, "--config.train.steps=300", "--config.train.save_every=1000"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    started = start(tiny_prepared, cut, *words, processes=2)
    send(started, cut, to=1, sign=signal.SIGTERM)
    done = end(started)
    assert [code for code, _ in done] == [128 + signal.SIGTERM] * 2, done
    assert saved_steps(cut) == [len(losses(cut))]
    good(end(start(tiny_prepared, cut, *words, processes=2)))
    good(end(start(tiny_prepared, whole, *words, processes=2)))
    assert len(losses(cut)) == 300
    check_equal(cut, whole)


@pytest.mark.slow
def test_two_processes_agree_on_the_step_before_a_damaged_one(tiny_prepared, tmp_path):
    run = tmp_path / "run"
    good(end(start(tiny_prepared, run, *QUIET, processes=2)))
    before, wanted = losses(run), load_run(run)
    assert saved_steps(run) == [4, 6]
    flip_newest(run)
    done = end(start(tiny_prepared, run, *QUIET, processes=2))
    good(done)
    assert sum("step 6 is damaged" in line for line in done[0][1]) == 1
    assert not any("damaged" in line for line in done[1][1])
    assert losses(run) == before
    found = load_run(run)
    assert found.step == 6
    chex.assert_trees_all_equal(found.params, wanted.params)
    assert json.loads((run / "summary.json").read_text())["checkpoint"]
