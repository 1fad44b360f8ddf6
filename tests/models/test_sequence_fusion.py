"""Fusion of sequences: over those that are there, whatever stands for the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models.fusion import (
    FUSIONS,
    AttentionFusion,
    ConcatFusion,
    make_fusion,
)

PRESENT = jnp.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], bool)


def features(filler: float = 0.0):
    drawn = jax.random.normal(jax.random.key(0), (4, 3, 5))
    return jnp.where(PRESENT[..., None], drawn, filler)


def random_fusion(name: str):
    """A fusion with nothing left at its start, where much is 0."""
    graphdef, params = nnx.split(make_fusion(name, 3, 5, rngs=nnx.Rngs(0)))
    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in pairs]
    return graphdef, jax.tree.unflatten(shape, drawn)


@pytest.mark.parametrize("name", FUSIONS)
def test_what_stands_for_a_missing_sequence_never_counts(name):
    graphdef, params = random_fusion(name)

    def total(params, given):
        fused = nnx.merge(graphdef, params)(given, PRESENT)
        return (fused**2).sum(), fused

    slope = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    wanted, fused = slope(params, features())
    for filler in (1e30, jnp.nan, jnp.inf):
        found, same = slope(params, features(filler))
        np.testing.assert_array_equal(fused, same)
        jax.tree.map(np.testing.assert_array_equal, wanted, found)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(wanted))
    assert not np.asarray(wanted[1])[~np.asarray(PRESENT)].any()


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_it_begins_as_the_mean_over_what_is_there(name):
    fused = make_fusion(name, 3, 5, rngs=nnx.Rngs(0))(features(), PRESENT)
    drawn = np.asarray(features())
    wanted = [drawn[0].mean(0), drawn[1, ::2].mean(0), drawn[2, 2], np.zeros(5)]
    np.testing.assert_allclose(fused, np.stack(wanted), atol=1e-6)


def test_attention_can_learn_to_look_at_one_sequence():
    fusion = AttentionFusion(3, 5, rngs=nnx.Rngs(0))
    fusion.sequences[...] = jnp.array([0.0, 0.0, 30.0])
    fused = fusion(features(), PRESENT)
    np.testing.assert_allclose(fused[:3], features()[:3, 2], atol=1e-5)


def test_side_by_side_a_missing_one_is_a_learnt_vector():
    fusion = ConcatFusion(3, 5, rngs=nnx.Rngs(0))
    fusion.missing[...] = jnp.arange(15.0).reshape(3, 5)
    fused = np.asarray(fusion(features(), PRESENT))
    assert fused.shape == (4, fusion.width) == (4, 15)
    np.testing.assert_array_equal(fused[0], np.asarray(features())[0].ravel())
    np.testing.assert_array_equal(fused[1, 5:10], [5, 6, 7, 8, 9])
    np.testing.assert_array_equal(fused[3], np.arange(15))


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(InputRefusedError, match="got sum"):
        make_fusion("sum", 2, 5, rngs=nnx.Rngs(0))
    with pytest.raises(InputRefusedError, match="2 inputs or more, got 1"):
        make_fusion("mean", 1, 5, rngs=nnx.Rngs(0))
