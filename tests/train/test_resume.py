"""A run that was interrupted equals one that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import pytest

from brainjax.errors import InputRefusedError
from brainjax.train.hooks import Terminated
from brainjax.train.pretrain import pretrain
from brainjax.train.restore import load_run
from tests.train.configs import tiny_pretraining


def stop_after(monkeypatch, step: int) -> None:
    """Lets the signal of a batch scheduler arrive while a step is being taken."""
    from brainjax.train import session

    real = session.train

    def with_signal(state, update, batches, *, steps, hooks):
        def kick(number, state, metrics):
            if number == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return real(state, update, batches, steps=steps, hooks=[kick, *hooks])

    monkeypatch.setattr(session, "train", with_signal)


def steps_logged(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row["step"] for row in map(json.loads, lines) if "loss" in row]


def test_sigterm_saves_and_the_resumed_run_is_the_same(
    tiny_prepared, tmp_path, monkeypatch
):
    config = tiny_pretraining(tiny_prepared, "--config.train.save_every=100")
    pretrain(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Terminated) as stopped:
            pretrain(config, tmp_path / "cut")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert load_run(tmp_path / "cut").step == 3
    pretrain(config, tmp_path / "cut")
    whole, cut = load_run(tmp_path / "whole"), load_run(tmp_path / "cut")
    assert whole.step == cut.step == 6
    chex.assert_trees_all_equal(whole.params, cut.params)
    chex.assert_trees_all_equal(whole.batch_stats, cut.batch_stats)
    assert steps_logged(tmp_path / "cut") == [1, 2, 3, 4, 5, 6]


def test_a_run_folder_refuses_another_config(tiny_prepared, tmp_path):
    pretrain(tiny_pretraining(tiny_prepared), tmp_path / "run")
    other = tiny_pretraining(tiny_prepared, "--config.optimizer.peak=0.5")
    with pytest.raises(InputRefusedError, match=r"optimizer.peak = 0.0001.* 0.5"):
        pretrain(other, tmp_path / "run")


@pytest.mark.slow
def test_kill_9_and_run_again_gives_the_same_parameters(tiny_prepared, tmp_path):
    steps = "--config.train.steps=60"
    pretrain(tiny_pretraining(tiny_prepared, steps), tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.train.configs import tiny_pretraining\n"
        "from brainjax.train.pretrain import pretrain\n"
        f"pretrain(tiny_pretraining(Path({str(tiny_prepared)!r}), {steps!r}), "
        f"Path({str(tmp_path / 'cut')!r}))\n"
    )
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
        deadline = time.monotonic() + 300
        before = _newest_step(tmp_path / "cut")
        while process.poll() is None and kills < 2:
            assert time.monotonic() < deadline, "no checkpoint in five minutes"
            if _newest_step(tmp_path / "cut") >= before + 4:
                process.kill()
                kills += 1
                break
            time.sleep(0.02)
        if process.wait() == 0:
            break
        assert kills, "the run failed by itself"
    assert kills == 2
    whole, cut = load_run(tmp_path / "whole"), load_run(tmp_path / "cut")
    assert whole.step == cut.step == 60
    chex.assert_trees_all_equal(whole.params, cut.params)
    chex.assert_trees_all_equal(whole.batch_stats, cut.batch_stats)
    assert steps_logged(tmp_path / "cut") == list(range(1, 61))


def _newest_step(run: Path) -> int:
    folder = run / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)
