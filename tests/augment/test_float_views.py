"""Float32 volumes: untouched at evaluation, never rounded in training views."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import (
    evaluation_view,
    make_augmentation,
    random_views,
    view_keys,
)
from brainjax.augment.chain import float_codes
from brainjax.errors import InputRefusedError
from tests.augment.test_geometry import QUIET, STILL

SHAPE = (14, 12, 13)
VIEWS = jax.jit(random_views, static_argnums=0, static_argnames="batch_by")
KEYS = view_keys(0, jnp.arange(3), 0)


@pytest.fixture(scope="module")
def scores():
    """Three z-scored blocks in zeros, skewed as brains are."""
    inner = np.random.default_rng(0).gamma(3, 1, (3, 10, 10, 9))
    axes = (1, 2, 3)
    inner -= inner.mean(axes, keepdims=True)
    scores = np.zeros((3, *SHAPE), np.float32)
    scores[:, 2:-2, 1:-1, 2:-2] = inner / inner.std(axes, keepdims=True)
    return jnp.asarray(scores)


def test_evaluation_view_is_the_stored_volume(scores):
    view = jax.jit(evaluation_view, static_argnums=1)(scores[0], SHAPE)
    chex.assert_trees_all_equal(view, scores[0])


def test_another_size_is_refused_with_both(scores):
    wanted = r"wanted \(96, 96, 96\), got \(14, 12, 13\) float32"
    with pytest.raises(InputRefusedError, match=wanted):
        jax.eval_shape(lambda volume: evaluation_view(volume, (96, 96, 96)), scores[0])


@pytest.mark.parametrize("batch_by", ["map", "vmap"])
def test_nothing_drawn_gives_the_stored_volume_back(scores, batch_by):
    still = make_augmentation(view=SHAPE, flip=0, **STILL, **QUIET)
    views = VIEWS(still, scores, KEYS, batch_by=batch_by)
    chex.assert_trees_all_close(views[..., 0], scores, atol=1e-5)


def test_a_view_is_finite_z_scored_and_replays(scores):
    augmentation = make_augmentation(view=(10, 11, 12), noise_probability=1)
    views = VIEWS(augmentation, scores, KEYS)
    chex.assert_shape(views, (3, 10, 11, 12, 1))
    chex.assert_tree_all_finite(views)
    for view in np.asarray(views):
        inside = view[view != 0]
        assert abs(inside.mean()) < 1e-5
        assert abs(inside.std() - 1) < 1e-4
    chex.assert_trees_all_equal(views, VIEWS(augmentation, scores, KEYS))


@pytest.mark.slow
def test_views_of_floats_are_those_of_codes_but_for_the_rounding(scores):
    """The same draw on the bytes nearest to a volume gives nearly the same view."""
    augmentation = make_augmentation(view=(10, 11, 12))
    codes = jnp.round(jax.vmap(float_codes)(scores)).astype(jnp.uint8)
    views = VIEWS(augmentation, scores, KEYS)
    chex.assert_trees_all_close(views, VIEWS(augmentation, codes, KEYS), atol=0.05)


@pytest.mark.slow
def test_a_larger_volume_is_reduced_without_rounding(scores):
    half = tuple(n // 2 for n in SHAPE)
    still = make_augmentation(view=half, flip=0, **STILL, **QUIET)
    views = VIEWS(still, scores, KEYS)
    chex.assert_shape(views, (3, *half, 1))
    values = np.asarray(still.apply(scores[0], still.draw(KEYS[0])).values) * 254
    assert (np.abs(values - np.round(values)) > 0.01).any()


def test_float_codes_span_1_to_255(scores):
    codes = float_codes(scores[0])
    inside = np.asarray(scores[0]) != 0
    assert (codes[~inside] == 0).all()
    assert (codes[inside].min(), codes[inside].max()) == (1, 255)
    empty = jnp.zeros(SHAPE, jnp.float32)
    chex.assert_trees_all_equal(float_codes(empty), empty)
