"""Attentive pooling: weighted means of tokens, plain ones at first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models.pooling import AttentivePool

TOKENS = jax.random.normal(jax.random.key(0), (3, 7, 8))


def test_it_begins_close_to_the_mean_of_the_normalised_tokens():
    pool = AttentivePool(8, queries=2, rngs=nnx.Rngs(0))
    pooled = pool(TOKENS)
    assert pooled.shape == (3, pool.width) == (3, 16)
    mean = pool.norm(TOKENS).mean(axis=1)
    np.testing.assert_allclose(pooled, jnp.tile(mean, 2), atol=0.06)


def test_a_query_can_pick_a_token_and_order_does_not_matter():
    pool = AttentivePool(8, rngs=nnx.Rngs(0))
    pool.keys.kernel[...] = jnp.eye(8)
    picked = pool.norm(TOKENS)[:, 4]
    pool.queries[...] = 100 * picked[:1]
    pooled = pool(TOKENS)
    np.testing.assert_allclose(pooled[0], picked[0], atol=1e-5)
    np.testing.assert_allclose(pool(TOKENS[:, ::-1]), pooled, atol=1e-5)


def test_every_parameter_learns():
    pool = AttentivePool(8, queries=2, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(pool)

    def loss(params):
        return (nnx.merge(graphdef, params)(TOKENS)[:, 0] ** 2).sum()

    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
    assert all(float(jnp.abs(slope).max()) > 0 for slope in slopes)


@pytest.mark.parametrize("tokens", [None, jnp.zeros((3, 8)), jnp.zeros((3, 7, 6))])
def test_an_encoder_without_such_tokens_is_refused(tokens):
    with pytest.raises(InputRefusedError, match=r"wanted an encoder with tokens"):
        AttentivePool(8, rngs=nnx.Rngs(0))(tokens)


def test_no_query_is_refused():
    with pytest.raises(InputRefusedError, match=r"head\.queries: .* got 0"):
        AttentivePool(8, queries=0, rngs=nnx.Rngs(0))
