"""The pure form equals the module, under jit and grad, statistics included."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.models import Head, PlainCNN, Projector, ViT, run, to_pure
from brainjax.models.pure import count_parameters

TINY = {"shape": 16, "width": 16, "depth": 2, "heads": 2, "patch": 8}
BUILDERS = {
    "vit": lambda rngs: ViT(**TINY, rngs=rngs),
    "plain_cnn": lambda rngs: PlainCNN(shape=16, channels=(4, 4, 8, 8, 8), rngs=rngs),
}


def volumes(b=3, seed=1):
    return jax.random.normal(jax.random.key(seed), (b, 16, 16, 16, 1))


@pytest.mark.parametrize(
    "name", [pytest.param("plain_cnn", marks=pytest.mark.slow), "vit"]
)
def test_run_in_jit_and_grad_equals_direct_call(name):
    module = BUILDERS[name](nnx.Rngs(0))
    graphdef, params, stats = to_pure(module)

    @jax.jit
    def step(params, stats, x):
        def loss(params):
            encoded, new = run(graphdef, params, stats, x, train=True)
            return jnp.sum(encoded.pooled**2), (encoded.pooled, new)

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, (pooled, new_stats)), gradients = step(params, stats, volumes())
    module.train()

    def direct_loss(module):
        return jnp.sum(module(volumes()).pooled ** 2)

    direct = nnx.jit(nnx.grad(direct_loss))(module)
    after = to_pure(module)
    chex.assert_trees_all_equal_shapes(gradients, params)
    assert_close_for_their_size(gradients, to_plain(direct))
    chex.assert_trees_all_close(new_stats, after.batch_stats, rtol=1e-4, atol=1e-5)
    module.eval()
    quiet, _ = run(graphdef, params, new_stats, volumes(), train=False)
    np.testing.assert_allclose(
        quiet.pooled, module(volumes()).pooled, rtol=1e-4, atol=1e-5
    )
    assert pooled.shape == (3, module.width)


def assert_close_for_their_size(got, want):
    """A BatchNorm of few cells is ill-conditioned: compare to the largest entry."""
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(want))
    chex.assert_trees_all_close(got, want, rtol=0, atol=1e-3 * largest)


def to_plain(state):
    def convert(tree):
        if isinstance(tree, dict):
            return {str(k): convert(v) for k, v in tree.items()}
        return tree

    return convert(nnx.to_pure_dict(state))


def test_statistics_change_only_in_training():
    graphdef, params, stats = to_pure(Projector(4, hidden=8, out=3, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (5, 4))
    _, still = run(graphdef, params, stats, x, train=False)
    chex.assert_trees_all_equal(still, stats)
    _, moved = run(graphdef, params, stats, x, train=True)
    chex.assert_trees_all_equal_shapes(moved, stats)
    assert all(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(stats), strict=True)
    )


@pytest.mark.parametrize("name", BUILDERS)
def test_trees_are_nested_dicts_of_arrays_with_string_keys(name):
    pure = to_pure(BUILDERS[name](nnx.Rngs(0)))
    for tree in (pure.params, pure.batch_stats):
        for path, leaf in jax.tree.leaves_with_path(tree):
            assert all(isinstance(step.key, str) for step in path)
            assert isinstance(leaf, jax.Array)
            assert leaf.dtype == jnp.float32
    assert type(pure.params) is dict
    assert hash(pure.graphdef) == hash(to_pure(BUILDERS[name](nnx.Rngs(1))).graphdef)


def test_shapes_without_allocation_match_the_real_ones():
    abstract = to_pure(nnx.eval_shape(lambda: BUILDERS["vit"](nnx.Rngs(0))))
    real = to_pure(BUILDERS["vit"](nnx.Rngs(0)))
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract.params, real.params)
    assert abstract.graphdef == real.graphdef
    assert count_parameters(abstract.params) == count_parameters(real.params)


def test_module_with_random_streams_is_refused():
    with pytest.raises(TypeError, match="rngs"):
        to_pure(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))


def test_head_runs_with_keys_inside_jit():
    graphdef, params, stats = to_pure(Head(8, 2, dropout=0.5, rngs=nnx.Rngs(0)))
    x, keys = jnp.ones((3, 8)).at[:, 0].set(2), jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def call(params, keys):
        return run(graphdef, params, stats, x, keys, train=True)[0]

    assert call(params, keys).shape == (3, 2)
    np.testing.assert_array_equal(call(params, keys), call(params, keys))
