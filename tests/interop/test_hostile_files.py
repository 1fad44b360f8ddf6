"""Hostile and broken files: one line each, nothing run, nothing spent."""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainjax.errors import InputRefusedError
from brainjax.interop.files import open_tensors, write_safetensors
from tests.interop import hostile as make
from tests.interop.hostile_cases import (
    CREATED,
    HARMLESS,
    PICKLES,
    TENSORS,
    TEXTS,
    ZIPS,
    beside,
)


def write_all(folder: Path) -> dict[str, tuple[Path, str]]:
    """Writes every hostile file; gives its path and what is said of it."""
    made = {}

    def add(case: str, message: str) -> Path:
        made[case] = folder / f"{len(made)}.ckpt", message
        return made[case][0]

    for case, (pickle, message) in PICKLES.items():
        make.write_pickle(add(case, message), pickle)
    for case, (value, message) in TENSORS.items():
        pickle = make.state_dict(weight=value)
        make.write_pickle(add(case, f"'weight': .*{message}"), pickle)
    for case, (parts, message) in ZIPS.items():
        make.write_zip(add(case, message), parts)
    for case, (data, message) in TEXTS.items():
        add(case, message).write_bytes(data)
    return made


@pytest.fixture(scope="module")
def hostile_files(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    return write_all(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("case", [*PICKLES, *TENSORS, *ZIPS, *TEXTS])
def test_it_is_refused_in_one_line(hostile_files, case):
    path, message = hostile_files[case]
    with pytest.raises(InputRefusedError, match=message) as caught:
        open_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 400
    assert not Path(CREATED).exists()


COSTS = """
import json, sys, time
from brainjax.errors import InputRefusedError
from brainjax.interop.files import open_tensors
def memory(word):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(word)) / 1024
before, slowest = memory("VmRSS"), 0
for path in json.load(sys.stdin):
    start = time.process_time()
    try:
        open_tensors(path)
    except InputRefusedError:
        pass
    slowest = max(slowest, time.process_time() - start)
print(slowest, memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_costs_under_two_seconds_and_200_mb(hostile_files):
    paths = [str(path) for path, _ in hostile_files.values()]
    done = subprocess.run(
        [sys.executable, "-c", COSTS],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 2
    assert megabytes < 200


@pytest.mark.parametrize("case", HARMLESS)
def test_what_lies_beside_the_state_dict_is_never_walked_far(tmp_path, case):
    path = make.write_pickle(tmp_path / "file", beside(HARMLESS[case]))
    file = open_tensors(path)
    assert file.facts["left out"] == ["odd"]
    np.testing.assert_array_equal(file.read("a"), np.ones((2, 3)))


def good_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        zipped = make.write_pickle(path, beside(make.number(3))).read_bytes()
        write_safetensors(path, {"a": np.ones((2, 3)), "b": np.zeros(3, bool)})
        return {
            "torch zip": zipped,
            "torch legacy": make.legacy(),
            "safetensors": path.read_bytes(),
        }


GOOD = good_files()


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind):
    path = tmp_path / "file"
    for length in range(0, len(GOOD[kind]), 3):
        path.write_bytes(GOOD[kind][:length])
        with pytest.raises(InputRefusedError):
            open_tensors(path)


FLIPS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4
)


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=200, deadline=None)
@given(flips=FLIPS, cut=st.integers(0, 40))
def test_damage_gives_arrays_or_a_refusal(kind, flips, cut):
    data = bytearray(GOOD[kind])
    for place, value in flips:
        data[int(place * len(data))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data[: len(data) - cut] if cut < 20 else data)
        try:
            file = open_tensors(path)
            arrays = {key: file.read(key) for key in file.tensors}
        except InputRefusedError:
            return
    for key, info in file.tensors.items():
        assert (arrays[key].shape, arrays[key].dtype.name) == info


def test_an_archive_of_numpy_and_a_folder_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    (tmp_path / "file").write_bytes(buffer.getvalue())
    with pytest.raises(InputRefusedError, match=r"got 0 in 'weight.npy'"):
        open_tensors(tmp_path / "file")
    with pytest.raises(InputRefusedError, match="got a folder"):
        open_tensors(tmp_path)
    with pytest.raises(InputRefusedError, match="got no such file"):
        open_tensors(tmp_path / "absent")
