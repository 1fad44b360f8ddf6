"""The task head and the projector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import Head, Projector


def pooled(b=6, d=32):
    return jax.random.normal(jax.random.key(0), (b, d))


def test_head_starts_small_and_is_still_without_keys():
    outputs = Head(32, 3, dropout=0.5, rngs=nnx.Rngs(0))(pooled(b=200))
    assert outputs.shape == (200, 3)
    assert 0.02 < outputs.std() < 0.3


def test_dropout_is_a_function_of_each_samples_key():
    head = Head(32, 3, dropout=0.5, rngs=nnx.Rngs(0))
    keys = jax.random.split(jax.random.key(1), 6)
    whole = head(pooled(), keys)
    parts = jnp.concatenate(
        [head(pooled()[:2], keys[:2]), head(pooled()[2:], keys[2:])]
    )
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    other = head(pooled(), jax.random.split(jax.random.key(2), 6))
    assert not np.allclose(whole, other)


def test_dropout_keeps_the_mean():
    head = Head(32, 1, dropout=0.3, rngs=nnx.Rngs(0))
    x = jnp.tile(pooled(b=1), (20_000, 1))
    noisy = head(x, jax.random.split(jax.random.key(3), 20_000))
    quiet = head(x[:1])
    np.testing.assert_allclose(noisy.mean(), quiet.mean(), atol=5 * noisy.std() / 141)


def test_dropout_of_zero_ignores_keys():
    head = Head(32, 1, rngs=nnx.Rngs(0))
    keys = jax.random.split(jax.random.key(1), 6)
    np.testing.assert_array_equal(head(pooled(), keys), head(pooled()))


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_impossible_dropout_is_refused(dropout):
    with pytest.raises(InputRefusedError, match=f"dropout < 1, got {dropout}"):
        Head(4, 1, dropout=dropout, rngs=nnx.Rngs(0))


def test_projector_normalises_over_the_batch():
    projector = Projector(32, hidden=16, out=8, rngs=nnx.Rngs(0))
    projector.train()
    embedded = projector(pooled())
    assert embedded.shape == (6, 8)
    np.testing.assert_allclose(embedded.mean(axis=0), 0, atol=1e-5)
