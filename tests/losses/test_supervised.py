"""Masked losses: padding never counts."""

import jax
import jax.numpy as jnp
import numpy as np

from brainjax.losses import cross_entropy, huber, masked_mean, masked_sums, mse


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
