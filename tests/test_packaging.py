"""What an installation brings, and what it must leave alone."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALL = re.findall(r"[a-z]+", EXTRAS["all"][0].partition("[")[2])


def name(requirement: str) -> str:
    return re.split(r"[\[<>=~! ;]", requirement)[0]


def test_the_base_install_never_replaces_a_jax_that_is_there():
    # An upper bound or an exact pin would take down an accelerator's newer jax, and an
    # extra of jax would put another backend in its place.
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[A-Za-z0-9-]+>=[0-9.]+", requirement), requirement
    assert PROJECT["requires-python"] == ">=3.11"


def test_accelerators_are_the_extras_of_jax_itself():
    for extra in ("cuda12", "cuda13", "tpu"):
        assert EXTRAS[extra] == [f"jax[{extra}]"]


def test_the_lock_pins_everything_that_is_asked_for():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {name(line) for line in lines if re.match(r"[a-z0-9-]+==", line)}
    extras = {word for extra, words in EXTRAS.items() for word in words if extra in ALL}
    wanted = [*PROJECT["dependencies"], *EXTRAS["dev"], *extras]
    names = {name(requirement).lower() for requirement in wanted} - {"brainjax"}
    assert names <= pinned
