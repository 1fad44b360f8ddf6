"""The program of a segmentation run: memory bounds, windows, flips."""

from pathlib import Path

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.infer import program as program_module
from brainjax.infer.program import Structures, _swapped, make_program, structures_of
from tests.infer.segmenting import make_run

CODES = np.random.default_rng(0).integers(1, 255, (1, 24, 24, 24)).astype(np.uint8)


@pytest.fixture(scope="module")
def run():
    return make_run(Path("runs/none"))


def test_probabilities_add_up_and_the_whole_volume_goes_at_once(run):
    program = make_program(run)
    found = program.call(CODES)
    assert found.shape == (4, 24, 24, 24)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (program.size, program.count, program.batch) == ((24, 24, 24), 1, 1)


def test_less_memory_means_smaller_windows_and_none_is_refused(run, monkeypatch):
    need = make_program(run).bytes
    assert need is not None
    small = make_program(run, memory_bytes=int(need * 0.9))
    assert small.size != (24, 24, 24)
    assert small.count > 1
    assert small.bytes < need
    assert small.call(CODES).shape == (4, 24, 24, 24)
    monkeypatch.setattr(program_module, "SIDE", 24)
    with pytest.raises(InputRefusedError, match=r"wanted .* GB of memory"):
        make_program(run, memory_bytes=1000)


def test_crops_are_seen_as_windows_of_their_size():
    run = make_run(Path("runs/none"), view=(16, 16, 16))
    program = make_program(run)
    assert (program.size, program.count) == ((16, 16, 16), 8)
    np.testing.assert_allclose(program.call(CODES).sum(0), 1, atol=1e-5)


def test_flips_make_the_answer_symmetric_with_sides_exchanged(run):
    program = make_program(run, flips=True)
    one, other = program.call(CODES), program.call(CODES[:, ::-1])
    mirrored = other[:, ::-1][[0, 2, 1, 3]]
    np.testing.assert_allclose(one, mirrored, atol=1e-5)
    plain = make_program(run).call(CODES)
    assert np.abs(one - plain).max() > 1e-3


def test_sides_are_exchanged_in_pairs_only():
    names = ("left_a", "b", "right_a")
    assert _swapped(Structures(names, True, ((0, 2),))).tolist() == [2, 1, 0]
    assert _swapped(Structures(names, False, ((0, 2),))).tolist() == [0, 3, 2, 1]


def test_a_run_that_does_not_segment_is_refused(run):
    with pytest.raises(InputRefusedError, match="got one of kind pretrain"):
        structures_of(run._replace(kind="pretrain"))
