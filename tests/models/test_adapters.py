"""Adapters: the pretrained network at first, and an encoder that never moves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import make_encoder
from brainjax.models.adapters import Adapters

VIT = {"name": "vit", "shape": 12, "patch": 6, "width": 24, "depth": 2, "heads": 3}
CNN = {"name": "plain_cnn", "shape": 8, "channels": (8, 16), "norm": "group"}


def adapted(words: dict):
    encoder = make_encoder(**words, rngs=nnx.Rngs(0))
    return encoder, Adapters(encoder, rank=2, rngs=nnx.Rngs(1))


@nnx.jit
def pooled(encoder, adapters, given):
    return (adapters.adapt(encoder) if adapters else encoder)(given).pooled


def volumes(words: dict):
    return jax.random.normal(jax.random.key(2), (2, *[words["shape"]] * 3, 1))


@pytest.mark.parametrize("words", [VIT, CNN], ids=lambda words: words["name"])
def test_they_change_nothing_at_first_and_then_what_they_say(words):
    encoder, adapters = adapted(words)
    given = volumes(words)
    plain = pooled(encoder, None, given)
    np.testing.assert_array_equal(pooled(encoder, adapters, given), plain)
    update = getattr(adapters, adapters.names[-1])
    update.b[...] = jax.random.normal(jax.random.key(3), update.b.shape)
    assert np.abs(pooled(encoder, adapters, given) - plain).max() > 1e-3
    np.testing.assert_array_equal(pooled(encoder, None, given), plain)


def test_a_stack_of_blocks_gets_an_update_for_every_block():
    _, adapters = adapted(VIT)
    assert adapters.names == (
        "blocks_mlp1",
        "blocks_mlp2",
        "blocks_out",
        "blocks_qkv",
        "embed",
    )
    update = getattr(adapters, "blocks_qkv")  # noqa: B009
    assert update.a.shape == (2, 24, 2)
    assert update.b.shape == (2, 2, 72)
    update.b[...] = update.b[...].at[1].set(1.0)
    both = update()
    assert not both[0].any()
    np.testing.assert_allclose(both[1], update.a[1] @ jnp.ones((2, 72)), rtol=1e-5)


def test_small_kernels_are_left_alone():
    _, adapters = adapted(CNN)
    assert adapters.names == ("convs_0", "stem")  # 216 x 16 and 64 x 8
    encoder, _ = adapted(CNN)
    assert Adapters(encoder, rank=6, rngs=nnx.Rngs(1)).names == ("convs_0",)


def test_gradients_reach_the_updates_and_not_the_encoder():
    encoder, adapters = adapted(VIT)
    structure, own = nnx.split(encoder)
    graphdef, learnt = nnx.split(adapters)

    def loss(own, learnt):
        network = nnx.merge(graphdef, learnt).adapt(nnx.merge(structure, own))
        return (network(volumes(VIT)).pooled ** 2).sum()

    to_own, to_learnt = jax.jit(jax.grad(loss, argnums=(0, 1)))(own, learnt)
    chex.assert_trees_all_equal(to_own, jax.tree.map(jnp.zeros_like, to_own))
    # At first only B has a slope: A is multiplied by 0.
    assert float(jnp.abs(to_learnt["blocks_out"]["b"][...]).max()) > 0


@pytest.mark.parametrize("rank", [0, 100])
def test_a_rank_that_is_none_or_not_low_is_refused(rank):
    encoder = make_encoder(**VIT, rngs=nnx.Rngs(0))
    with pytest.raises(InputRefusedError, match=rf"adapters\.rank: .* got {rank}"):
        Adapters(encoder, rank=rank, rngs=nnx.Rngs(1))
