"""When a pretraining run stops to look at what its features hold."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.train.probe import Probe


class Features:
    """Stands for frozen features of eight scans, four of them for validation."""

    dataset: Any = SimpleNamespace(labels=lambda name: [20.0, 30.0, 40.0, 50.0] * 2)
    train, val = np.arange(4), np.arange(4, 8)

    def __call__(self, state):
        features = np.array([[20.0], [30.0], [40.0], [50.0]])
        return features, features


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4]), (5, [5]), (0, [])])
def test_it_looks_every_so_often_or_never(every, steps):
    written = []
    log: Any = SimpleNamespace(write=lambda step, scores: written.append(step))
    features: Any = Features()
    probe = Probe(features, log, targets=("age",), every=every)
    for step in range(1, 6):
        probe(step, {}, {})
    assert written == steps


def test_fewer_than_no_steps_are_refused():
    stand_in: Any = None
    features: Any = Features()
    with pytest.raises(InputRefusedError, match="wanted steps, or 0 for never"):
        Probe(features, stand_in, every=-1)
