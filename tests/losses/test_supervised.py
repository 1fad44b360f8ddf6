"""Masked losses: padding never counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.losses import (
    cross_entropy,
    focal,
    huber,
    l1,
    masked_mean,
    masked_sums,
    mse,
    soft_bins,
    soft_logits,
)


def test_values_by_hand():
    outputs, targets = jnp.array([0.0, 3.0]), jnp.array([0.5, 0.0])
    np.testing.assert_allclose(mse(outputs, targets), [0.25, 9.0])
    np.testing.assert_allclose(huber(outputs, targets), [0.125, 2.5])
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    got = cross_entropy(logits, jnp.array([1, 0]))
    np.testing.assert_allclose(got, -np.log([0.8, 0.5]), rtol=1e-6)


def test_weight_zero_does_not_count():
    values, weight = jnp.array([1.0, jnp.nan, 4.0]), jnp.array([1.0, 0.0, 2.0])
    assert masked_mean(values, weight) == 3.0
    assert masked_sums(values, weight) == (9.0, 3.0)


def test_nothing_labelled_gives_zero_and_no_gradient():
    def loss(outputs):
        return masked_mean(mse(outputs, jnp.zeros(3)), jnp.zeros(3))

    value, gradient = jax.value_and_grad(loss)(jnp.ones(3))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_sums_of_parts_divide_to_the_whole():
    rng = np.random.default_rng(0)
    values, weight = rng.random(10), rng.integers(0, 2, 10).astype(float)
    parts = [
        masked_sums(jnp.asarray(values[s]), jnp.asarray(weight[s]))
        for s in (slice(0, 3), slice(3, 10))
    ]
    total, count = (sum(column) for column in zip(*parts, strict=True))
    whole = masked_mean(jnp.asarray(values), jnp.asarray(weight))
    np.testing.assert_allclose(total / count, whole, rtol=1e-6)


def test_focal_by_hand():
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    targets = jnp.array([1, 0])
    want = [0.2**2 * -np.log(0.8), 0.5**2 * -np.log(0.5)]
    np.testing.assert_allclose(focal(logits, targets), want, rtol=1e-5)
    plain = cross_entropy(logits, targets)
    np.testing.assert_allclose(focal(logits, targets, gamma=0.0), plain, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_has_a_slope_where_the_answer_is_certain(gamma):
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])

    def loss(logits):
        return focal(logits, jnp.array([0, 0]), gamma=gamma).sum()

    value, slope = jax.jit(jax.value_and_grad(loss))(logits)
    np.testing.assert_allclose(value, 2e4)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[0], 0)


def test_l1_by_hand():
    got = l1(jnp.array([0.0, 3.0]), jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(got, [0.5, 3.0])


def test_soft_bins_are_least_at_the_distribution_they_ask_for():
    centres, targets = jnp.linspace(-3, 3, 13), jnp.array([-0.3, 1.1])
    best = soft_logits(targets, centres, spread=0.5)

    def loss(logits):
        return soft_bins(logits, targets, centres, spread=0.5).sum()

    value, slope = jax.value_and_grad(loss)(best)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    wanted = np.asarray(jax.nn.softmax(best))
    np.testing.assert_allclose(
        value, -(wanted * np.log(wanted + 1e-30)).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(wanted @ centres, targets, atol=1e-3)


def test_soft_bins_of_a_target_far_outside_are_finite():
    centres = jnp.linspace(-2, 2, 9)
    got = soft_bins(jnp.zeros((1, 9)), jnp.array([1e4]), centres, spread=0.1)
    np.testing.assert_allclose(got, np.log(9), rtol=1e-6)
