"""Working ahead changes when things happen, never what comes."""

import gc
import itertools
import threading
import time

import pytest

from brainjax.data.ahead import Ahead
from tests.simulated import run_simulated


def threads() -> int:
    return sum(t.name == "brainjax-ahead" for t in threading.enumerate())


def wait_for(what) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_gives_the_same_and_no_more_than_its_depth_ahead():
    made = []

    def work():
        for number in itertools.count():
            made.append(number)
            yield number

    ahead = Ahead(work(), depth=2)
    for taken in range(5):
        wait_for(lambda taken=taken: len(made) == taken + 2)
        time.sleep(0.02)
        assert len(made) == taken + 2
        assert next(ahead) == taken
    ahead.close()
    assert threads() == 0
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_comes_in_its_turn_and_again():
    def work():
        yield 1
        raise ValueError("damaged")

    ahead = Ahead(work())
    assert next(ahead) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            next(ahead)
    wait_for(lambda: threads() == 0)


def test_what_ends_ends():
    assert list(Ahead(iter([1, 2, 3]))) == [1, 2, 3]


def test_a_forgotten_one_ends_its_thread():
    ahead = Ahead(itertools.count())
    next(ahead)
    assert threads() == 1
    del ahead
    gc.collect()
    wait_for(lambda: threads() == 0)


STOPS_EARLY = """
import itertools
from brainjax.data.ahead import Ahead
ahead = Ahead(itertools.count())
print(next(ahead))
"""


def test_a_program_that_stops_early_ends():
    since = time.monotonic()
    assert run_simulated(STOPS_EARLY, 1) == "0\n"
    assert time.monotonic() - since < 60
