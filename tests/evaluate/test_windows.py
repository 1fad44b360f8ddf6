"""Windows cover every voxel, and change nothing for a network that looks at one."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.evaluate.windows import axis_starts, whole_logits, window_starts

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("field", "size"), [(96, 96), (97, 32), (33, 32), (20, 32)])
def test_windows_cover_a_line_from_end_to_end(field, size, overlap):
    starts = axis_starts(field, size, overlap)
    seen = np.zeros(max(field, size))
    for start in starts:
        seen[start : start + size] += 1
    assert seen.min() >= 1
    assert len(seen) == max(field, size)
    assert starts[0] == 0
    assert len(starts) == 1 or (np.diff(starts) <= size * (1 - overlap) + 0.5).all()


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("field", [(13, 9, 8), (6, 12, 7)])
def test_windows_are_the_whole_for_a_pointwise_network(batch, field):
    kernel = RNG.normal(size=(2, 3)).astype(np.float32)
    volume = RNG.normal(size=(*field, 2)).astype(np.float32)

    @jax.jit
    def ask(volume):
        words = {"size": (8, 8, 8), "batch": batch}
        return whole_logits(lambda w: jnp.tanh(w @ kernel), volume, **words)

    chex.assert_trees_all_close(ask(volume), np.tanh(volume @ kernel), atol=1e-5)


def test_one_window_is_one_pass():
    volume = RNG.normal(size=(8, 6, 8, 1)).astype(np.float32)
    seen = []

    def call(windows):
        seen.append(windows.shape)
        return windows - windows.mean()

    got = whole_logits(call, jnp.asarray(volume), size=(8, 6, 8))
    assert seen == [(1, 8, 6, 8, 1)]
    chex.assert_trees_all_close(got, volume - volume.mean(), atol=1e-6)


def test_borders_of_windows_count_least():
    def call(windows):  # answers 1 at the border of a window, 0 within
        return jnp.pad(
            jnp.zeros((windows.shape[0], 6, 6, 6, 1)),
            [(0, 0)] + [(1, 1)] * 3 + [(0, 0)],
            constant_values=1,
        )

    got = whole_logits(call, jnp.zeros((12, 8, 8, 1)), size=(8, 8, 8))
    assert len(window_starts((12, 8, 8), (8, 8, 8))) == 2
    assert float(got[4:8, 2:6, 2:6].max()) < 0.05
