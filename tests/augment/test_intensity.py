"""Every row of the table: identity at zero, outside untouched, values in 0..1."""

import chex
import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from brainjax.augment import AUGMENTATIONS, View
from brainjax.augment.intensity import draw_blur
from brainjax.augment.noise import gaussian_noise, threefry

SHAPE = (12, 13, 11)


@pytest.fixture
def view():
    rng = np.random.default_rng(0)
    inside = np.zeros(SHAPE, bool)
    inside[2:10, 1:11, 3:9] = True
    values = np.where(inside, rng.uniform(0, 1, SHAPE), 0)
    return View(jnp.asarray(values, jnp.float32), jnp.asarray(inside))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(("strength", "probability"), [(0.0, 1.0), (0.5, 0.0)])
def test_zero_strength_or_probability_is_the_identity(
    name, strength, probability, view
):
    row = AUGMENTATIONS[name]
    for seed in range(3):
        draw = row.draw(jax.random.key(seed), strength, probability)
        assert not draw.active
        chex.assert_trees_all_equal(row.apply(view, draw), view)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_row_changes_the_inside_only_and_stays_in_range(name, view):
    row = AUGMENTATIONS[name]
    draw = row.draw(jax.random.key(2), 0.8, 1.0)
    changed = row.apply(view, draw)
    assert draw.active
    assert jnp.abs(changed.values - view.values).max() > 0.01
    assert (changed.values[~view.inside] == 0).all()
    assert 0 <= changed.values.min() <= changed.values.max() <= 1
    chex.assert_trees_all_equal(changed.inside, view.inside)
    chex.assert_trees_all_equal(changed, row.apply(view, draw))  # It replays.


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_is_how_often(name):
    keys = jax.random.split(jax.random.key(0), 400)
    active = jax.vmap(lambda key: AUGMENTATIONS[name].draw(key, 0.5, 0.25))(keys).active
    assert 0.17 < active.mean() < 0.33


def test_gamma_is_a_power(view):
    row = AUGMENTATIONS["gamma"]
    draw = row.draw(jax.random.key(0), 0.5, 1.0)
    expected = jnp.where(view.inside, view.values ** jnp.exp(draw.amount), 0)
    chex.assert_trees_all_close(row.apply(view, draw).values, expected, atol=1e-5)


def test_contrast_keeps_the_mean(view):
    row = AUGMENTATIONS["contrast"]
    mild = View(jnp.where(view.inside, 0.4 + view.values / 5, 0), view.inside)
    changed = row.apply(mild, row.draw(jax.random.key(0), 0.2, 1.0)).values
    np.testing.assert_allclose(changed.sum(), mild.values.sum(), rtol=1e-5)


def test_blur_agrees_with_scipy_and_does_not_bleed(view):
    draw = draw_blur(jax.random.key(2), 1.0, 1.0)
    half = np.asarray(draw.amount)
    kernel = np.concatenate([half[:0:-1], half])
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-5)

    def smooth(array):
        for axis in range(3):
            array = ndimage.correlate1d(array, kernel, axis, mode="constant")
        return array

    weight = smooth(np.asarray(view.inside, float))
    expected = smooth(np.asarray(view.values, float)) / np.maximum(weight, 1e-6)
    blurred = AUGMENTATIONS["blur"].apply(view, draw).values
    inside = np.asarray(view.inside)
    np.testing.assert_allclose(blurred[inside], expected[inside], atol=1e-5)
    flat = View(view.inside * jnp.float32(0.7), view.inside)
    level = AUGMENTATIONS["blur"].apply(flat, draw).values
    np.testing.assert_allclose(level[inside], 0.7, atol=1e-5)


def test_bias_has_the_strength_asked_for():
    view = View(jnp.full((16, 16, 16), 0.5), jnp.ones((16, 16, 16), bool))
    row = AUGMENTATIONS["bias"]

    def log_gain(key):
        return jnp.log(row.apply(view, row.draw(key, 0.05, 1.0)).values / 0.5)

    gains = jax.lax.map(log_gain, jax.random.split(jax.random.key(0), 200))
    assert 0.045 < jnp.sqrt(jnp.mean(gains**2)) < 0.055
    steps = jnp.abs(jnp.diff(gains, axis=1))
    assert steps.max() < jnp.abs(gains).max()  # Smooth: no jump as large as the field.


def test_threefry_gives_jaxs_bits():
    words = jnp.array([123, 456], jnp.uint32)
    counter = jnp.arange(10, dtype=jnp.uint32)
    pairs = jnp.concatenate([counter, jnp.zeros_like(counter)])
    expected = jax.extend.random.threefry_2x32(words, pairs)[:10]
    chex.assert_trees_all_equal(threefry(words, counter), expected)


def test_noise_is_close_to_normal():
    words = jax.random.key_data(jax.random.key(7))
    noise = np.asarray(gaussian_noise(words, (64, 64, 64)), float)
    other = np.asarray(gaussian_noise(words + 1, (64, 64, 64)), float)
    count = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(count)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((noise**3).mean()) < 0.03
    assert abs((noise**4).mean() - 3) < 0.15
    for quantile, expected in ((0.025, -1.96), (0.16, -0.9945), (0.975, 1.96)):
        assert abs(np.quantile(noise, quantile) - expected) < 0.03
    for axis in range(3):
        neighbours = (noise * np.roll(noise, 1, axis)).mean()
        assert abs(neighbours) < 4 / np.sqrt(count)
    assert abs((noise * other).mean()) < 4 / np.sqrt(count)
