"""Configs: overrides by the type of the default, one-line errors, JSON."""

import json

import pytest

from brainjax.configuration import construct, load_config, to_dict
from brainjax.errors import InputRefusedError

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.seed = 1
    config.encoder = ConfigDict({"name": "vit", "patch": (16, 16, 16), "pool": "mean"})
    config.optimizer = ConfigDict({"peak": 1e-3, "clip": 1.0, "frozen": ()})
    config.train = ConfigDict({"steps": 100, "remat": False, "resume": None})
    return config
"""


@pytest.fixture
def path(tmp_path):
    """A config file."""
    file = tmp_path / "tiny.py"
    file.write_text(CONFIG)
    return file


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("seed=-7", -7),
        ("optimizer.peak=3e-4", 3e-4),
        ("optimizer.peak=1", 1.0),
        ("optimizer.clip=none", None),
        ("train.remat=True", True),
        ("encoder.patch=4,4,4", (4, 4, 4)),
        ("encoder.patch=(8, 8, 4)", (8, 8, 4)),
        ("encoder.patch=()", ()),
        ("encoder.name=a=b", "a=b"),
        ("encoder.name=none", "none"),
        ("optimizer.frozen=encoder,head", ("encoder", "head")),
        ("train.resume=runs/a", "runs/a"),
        ("train.resume=12", 12),
    ],
)
def test_values_are_read_by_the_type_of_the_default(path, override, value):
    key, _, text = override.partition("=")
    for words in ([f"--config.{override}"], [f"--config.{key}", text]):
        got = load_config(path, words)
        for part in key.split("."):
            got = got[part]
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.seed=1.5", r"--config\.seed: wanted int \(default 1\), got '1\.5'"),
        (
            "--config.optimizer.peak=fast",
            r"wanted float \(default 0\.001\), got 'fast'",
        ),
        ("--config.train.remat=1", r"wanted bool \(default False\), got '1'"),
        ("--config.encoder.patch=4,a,4", r"wanted tuple \(default \(16, 16, 16\)\)"),
        ("--config.train.stepz=1", r"no such key; did you mean train\.steps\?"),
        ("--config.model.patch=1", r"did you mean encoder\.patch\?"),
        ("--config.train=1", r"wanted one key, such as train\.remat"),
        ("--config.train.steps", "wanted a value, got none"),
        ("--steps=1", "wanted --config.key=value, got --steps=1"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_both(path, override, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        load_config(path, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got nothing there"),
        ("x = 1", r"wanted a get_config\(\) that gives a ConfigDict, got none"),
        ("def get_config(): return {}", "got dict"),
        ("def get_config(): raise KeyError('a\\nb')", "KeyError"),
        ("def get_config(:", "SyntaxError"),
    ],
    ids=["absent", "no function", "a dict", "raises", "syntax"],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, content, message):
    file = tmp_path / "bad.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputRefusedError, match=message) as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_a_trace_can_be_asked_for_with_any_config(path):
    assert load_config(path).profile_steps == ()
    for words in (
        ["--config.profile_steps=10,12"],
        ["--config.profile_steps", "10,12"],
    ):
        assert load_config(path, words).profile_steps == (10, 12)
    path.write_text(
        CONFIG.replace("return", "config.profile_steps = (1, 2)\n    return")
    )
    assert load_config(path).profile_steps == (1, 2)


def test_the_config_is_locked(path):
    config = load_config(path)
    with pytest.raises(AttributeError):
        config.train.unheard_of = 1


def make_thing(mesh, *, width, heads=3):
    return mesh, width, heads


def test_construct_calls_with_the_keys_of_a_section():
    assert construct("thing", make_thing, "m", width=2) == ("m", 2, 3)
    assert construct("any", lambda **words: words, width=2) == {"width": 2}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"width": 1, "head": 2}, r"config\.thing\.head: there is .* mean heads\?"),
        ({"heads": 1}, r"config\.thing: missing a required argument: 'width'"),
    ],
)
def test_construct_refuses_what_does_not_fit_in_one_line(keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        construct("thing", make_thing, "m", **keywords)
    assert "\n" not in str(caught.value)


def test_to_dict_is_what_json_reads_back(path):
    plain = to_dict(load_config(path))
    assert plain == json.loads(json.dumps(plain))
    assert plain["encoder"]["patch"] == [16, 16, 16]
