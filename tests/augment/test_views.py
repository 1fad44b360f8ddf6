"""A view replays, is z-scored, and does not depend on its batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import (
    View,
    chain,
    evaluation_view,
    make_augmentation,
    normalise,
    random_views,
    resize,
    view_keys,
)
from brainjax.augment.resize import triangle_weights
from brainjax.errors import InputRefusedError

SHAPE = (14, 12, 13)
AUGMENTATION = make_augmentation(
    view=(10, 11, 12), blur_probability=1, noise_probability=1
)
VIEWS = jax.jit(random_views, static_argnums=0, static_argnames="batch_by")


@pytest.fixture(scope="module")
def codes():
    codes = np.zeros((3, *SHAPE), np.uint8)
    codes[:, 2:-2, 1:-1, 2:-2] = np.random.default_rng(0).integers(
        1, 256, (3, 10, 10, 9)
    )
    return jnp.asarray(codes)


KEYS = view_keys(0, jnp.arange(3), 0)


def test_views_are_what_an_encoder_takes(codes):
    views = VIEWS(AUGMENTATION, codes, KEYS)
    chex.assert_shape(views, (3, 10, 11, 12, 1))
    chex.assert_type(views, jnp.float32)
    chex.assert_tree_all_finite(views)


def test_view_is_z_scored_over_its_inside_and_the_same_without_jit(codes):
    parameters = AUGMENTATION.draw(KEYS[0])
    view = AUGMENTATION.apply(codes[0], parameters)
    scored = np.asarray(normalise(view))
    inside = np.asarray(view.inside)
    assert abs(scored[inside].mean()) < 1e-5
    assert abs(scored[inside].std() - 1) < 1e-4
    assert (scored[~inside] == 0).all()
    assert (~inside).any()
    jitted = VIEWS(AUGMENTATION, codes[:1], KEYS[:1], batch_by="map")[0, ..., 0]
    chex.assert_trees_all_close(scored, jitted, atol=1e-4)


@pytest.mark.parametrize("batch_by", ["map", "vmap"])
def test_view_replays(codes, batch_by):
    first = VIEWS(AUGMENTATION, codes, KEYS, batch_by=batch_by)
    again = VIEWS(AUGMENTATION, codes, KEYS, batch_by=batch_by)
    chex.assert_trees_all_equal(first, again)


def test_vmap_equals_map(codes):
    mapped = VIEWS(AUGMENTATION, codes, KEYS, batch_by="map")
    at_once = VIEWS(AUGMENTATION, codes, KEYS, batch_by="vmap")
    chex.assert_trees_all_close(mapped, at_once, atol=1e-4)


@pytest.mark.slow
def test_many_volumes_go_through_an_accelerator_in_parts(codes, monkeypatch):
    crops = make_augmentation(view=8, bias=0, gamma=0, blur=0, noise=0)
    at_once = VIEWS(crops, codes, KEYS, batch_by="vmap")
    monkeypatch.setattr(chain, "_TOGETHER", 2)
    in_parts = random_views(crops, codes, KEYS, batch_by="vmap")
    chex.assert_trees_all_close(at_once, in_parts, atol=1e-4)


def test_views_that_share_a_box_see_the_same_tissue_differently():
    drawn = [AUGMENTATION.draw(key, KEYS[2]).placement for key in KEYS[:2]]
    chex.assert_trees_all_equal(drawn[0].sides, drawn[1].sides)
    assert (drawn[0].matrix != drawn[1].matrix).any()
    alone = AUGMENTATION.draw(KEYS[0]).placement
    assert (alone.sides != drawn[0].sides).any()


def test_map_is_bitwise_the_same_in_any_batch(codes):
    together = VIEWS(AUGMENTATION, codes, KEYS, batch_by="map")
    pair = VIEWS(AUGMENTATION, codes[1:], KEYS[1:], batch_by="map")
    alone = VIEWS(AUGMENTATION, codes[2:], KEYS[2:], batch_by="map")
    chex.assert_trees_all_equal(together[1:], pair)
    chex.assert_trees_all_equal(together[2:], alone)


def test_other_key_gives_another_view(codes):
    first = VIEWS(AUGMENTATION, codes, KEYS)
    second = VIEWS(AUGMENTATION, codes, view_keys(0, jnp.arange(3), 1))
    assert (jnp.abs(first - second).mean(axis=(1, 2, 3, 4)) > 0.1).all()


def test_view_keys_are_a_function_of_seed_position_and_view():
    words = {
        tuple(np.asarray(jax.random.key_data(key)).tolist())
        for seed in (0, 1)
        for view in (0, 1)
        for key in view_keys(seed, jnp.arange(5), view)
    }
    assert len(words) == 20
    shifted = jax.jit(view_keys)(0, jnp.array([4, 2]), 0)
    chex.assert_trees_all_equal(
        jax.random.key_data(shifted[1]), jax.random.key_data(KEYS[2])
    )


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_constant_volume_gives_finite_zeros(level):
    inside = jnp.zeros((20, 20, 20), bool).at[3:17, 3:17, 3:17].set(True)
    scored = normalise(View(jnp.where(inside, jnp.float32(level), 0), inside))
    chex.assert_trees_all_equal(scored, jnp.zeros_like(scored))


def test_empty_volume_gives_finite_zeros():
    empty = jnp.zeros((2, *SHAPE), jnp.uint8)
    views = VIEWS(AUGMENTATION, empty, KEYS[:2])
    chex.assert_trees_all_equal(views, jnp.zeros_like(views))


def test_evaluation_view_at_equal_size_resamples_nothing(codes):
    values, inside = resize(codes[0], SHAPE)
    np.testing.assert_array_equal(inside, codes[0] > 0)
    expected = jnp.where(inside, (codes[0].astype(jnp.float32) - 1) / 254, 0)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    chex.assert_trees_all_equal(
        evaluation_view(codes[0], SHAPE), normalise(View(values, inside))
    )


def test_shrinking_keeps_the_mean():
    rng = np.random.default_rng(1)
    codes = np.zeros((24, 24, 24), np.uint8)
    codes[4:20, 4:20, 4:20] = rng.integers(1, 256, (16, 16, 16))
    values, inside = resize(jnp.asarray(codes), (12, 12, 12))
    assert abs(int(inside.sum()) - 8**3) < 8**3 // 4
    whole = (codes[codes > 0].astype(float) - 1).mean() / 254
    assert abs(values[inside].mean() - whole) < 0.01


def test_triangle_rows_are_averages_and_centred():
    for source, target in ((192, 96), (10, 7), (5, 9), (8, 8)):
        weights = triangle_weights(source, target)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-6)
    np.testing.assert_array_equal(triangle_weights(8, 8), np.eye(8))


def test_augmentation_is_hashable_and_takes_a_configs_lists():
    augmentation = make_augmentation(view=[8, 8, 8], crop=[0.5, 1.0], rotate=3)
    assert augmentation == make_augmentation(view=8, crop=(0.5, 1), rotate=3)
    assert len({augmentation, make_augmentation()}) == 2


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("crop", (0.0, 1.0)),
        ("crop", (0.5, 1.5)),
        ("view", (8, 8)),
        ("flip", 2.0),
        ("noise", -1.0),
        ("blur_probability", 1.1),
    ],
)
def test_impossible_strength_is_refused_by_name(keyword, value):
    with pytest.raises(InputRefusedError, match=f"^{keyword}: wanted .*, got "):
        make_augmentation(**{keyword: value})


@pytest.mark.parametrize(
    ("keyword", "near"),
    [("rotat", "rotate"), ("noise_probabilty", "noise_probability")],
)
def test_unknown_strength_is_refused_with_the_near_miss(keyword, near):
    wanted = rf"^augment\.{keyword}: there is no such strength; did you mean {near}\?$"
    with pytest.raises(InputRefusedError, match=wanted):
        make_augmentation(**{keyword: 0.5})
