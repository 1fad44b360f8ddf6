"""A notebook starts from what was named, and converts a file once."""

import json
from types import SimpleNamespace

import pytest

from brainjax.errors import InputRefusedError
from brainjax.report import notebook
from brainjax.report.notebook import Start, say_device, start_from, task_config
from brainjax.volume.recipe import make_recipe


@pytest.fixture
def converted(monkeypatch):
    """Stands in for conversion; gives the addresses that were converted."""
    calls: list[str] = []

    def convert(address, folder, statement):
        calls.append(address)
        folder.mkdir()
        config = {"kind": "encoder", "converted": {"file": address}}
        (folder / "config.json").write_text(json.dumps(config))

    recipe = make_recipe("brainiac_v2")
    monkeypatch.setattr(notebook, "convert", convert)
    monkeypatch.setattr(notebook, "show_conversion", lambda conversion: None)
    monkeypatch.setattr(
        notebook, "load_run", lambda folder: SimpleNamespace(recipe=recipe)
    )
    return calls


def test_the_device_is_said(capsys):
    say_device()
    assert "no GPU found: runs on" in capsys.readouterr().out


def test_from_scratch_the_network_fits_the_volumes():
    start = start_from("", "unused", spacing=2.0)
    config = task_config(start, "data", "age")
    assert (config.init, config.weights) == ("", "random")
    assert config.view == start.recipe.shape == (96, 96, 96)
    assert config.encoder.name == "plain_cnn"
    assert (config.task.name, config.task.target) == ("auto", "age")
    assert config.data.path == "data"


def test_a_pretrained_encoder_stays_as_it_is():
    config = task_config(Start("runs/x", make_recipe(spacing=2.0)), "data", "sex")
    assert (config.init, config.weights) == ("runs/x", "pretrained")
    assert not config.encoder
    assert "flip" not in config.augment


def test_axes_as_stored_are_not_flipped():
    config = task_config(Start("runs/x", make_recipe("brainiac_v2")), "data", "sex")
    assert config.augment.flip == 0.0


def test_a_column_of_events_makes_a_survival_task():
    start = Start("", make_recipe(spacing=4.0))
    config = task_config(start, "data", "days", event="died")
    task = config.task
    assert (task.name, task.target, task.event) == ("survival", "days", "died")
    assert config.split.stratify == "died"


def test_a_checkpoint_file_is_converted_once(tmp_path, converted):
    file = tmp_path / "BrainIAC.ckpt"
    file.write_bytes(b"weights")
    home = tmp_path / "home"
    first, second = start_from(file, home), start_from(str(file), home)
    assert first == second
    assert first.init == str(home / "converted_BrainIAC")
    assert first.recipe.name == "brainiac_v2"
    assert converted == [str(file)]


def test_another_file_of_the_same_name_is_refused(tmp_path, converted):
    start_from("hf://one/model/weights.ckpt", tmp_path)
    with pytest.raises(InputRefusedError, match="got a run from hf://one/model"):
        start_from("hf://two/model/weights.ckpt", tmp_path)
