"""Encoders of convolutions: their maps, their pooling, and what keywords change."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import DenseNet, ResNet, SegResEncoder, make_encoder, run, to_pure
from brainjax.models.parts import halving_mean, overlapping_max
from brainjax.models.resnet import Shortcut

SMALL = {
    "resnet": {"depth": 10, "init_filters": 4},
    "segresnet": {"init_filters": 4, "blocks": (1, 2)},
    "densenet": {"init_filters": 8, "growth": 4, "blocks": (2, 2)},
}


def volumes(b=2, shape=(16, 16, 16), channels=1, seed=1):
    return jax.random.normal(jax.random.key(seed), (b, *shape, channels))


def small(name, **keywords):
    """Graph, parameters and statistics; flax's own initialisation compiles slowly."""
    keywords = SMALL[name] | keywords
    module = nnx.eval_shape(lambda: make_encoder(name, rngs=nnx.Rngs(0), **keywords))
    graphdef, params, stats = to_pure(module)
    random = np.random.default_rng(0)

    def fill(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        fan_in = np.prod(leaf.shape[:-1])
        return (
            jnp.asarray(random.standard_normal(leaf.shape, np.float32)) * fan_in**-0.5
        )

    return graphdef, jax.tree.map(fill, params), jax.tree.map(fill, stats)


def map_shapes(make, shape, channels=1):
    """Shapes of the feature maps, without the batch."""
    module = nnx.eval_shape(lambda: make(shape=shape, rngs=nnx.Rngs(0)))
    graphdef, params, stats = to_pure(module)
    call = partial(run, graphdef, train=False, method="feature_maps")
    maps, _ = jax.eval_shape(call, params, stats, volumes(1, shape, channels))
    return [found.shape[1:] for found in maps]


def test_feature_maps_of_a_resnet():
    bottlenecks = partial(ResNet, depth=50, init_filters=4)
    assert map_shapes(bottlenecks, (40, 32, 17)) == [
        (40, 32, 17, 4),
        (20, 16, 9, 16),
        (10, 8, 5, 32),
        (5, 4, 3, 64),
        (3, 2, 2, 128),
    ]
    strided = partial(ResNet, depth=10, init_filters=4, stem_stride=2)
    unpooled = partial(strided, max_pool=False)
    assert map_shapes(unpooled, (32, 32, 32))[:2] == [(16, 16, 16, 4)] * 2
    dilated = partial(strided, dilated=True)
    assert map_shapes(dilated, (32, 32, 32))[-1] == (4, 4, 4, 32)


def test_feature_maps_of_a_segresnet_encoder():
    make = partial(SegResEncoder, init_filters=4, blocks=(1, 1, 2))
    assert map_shapes(make, (16, 12, 9)) == [
        (16, 12, 9, 4),
        (8, 6, 5, 8),
        (4, 3, 3, 16),
    ]


def test_feature_maps_of_a_densenet():
    make = partial(DenseNet, init_filters=8, growth=4, blocks=(2, 3))
    assert map_shapes(make, (32, 24, 13)) == [
        (16, 12, 7, 8),
        (8, 6, 4, 16),
        (4, 3, 2, 20),
    ]


@pytest.mark.parametrize("name", SMALL)
def test_pooled_is_the_mean_of_the_tokens_and_they_are_the_last_map(name):
    shape = (16, 24, 20)
    graphdef, params, stats = small(name, shape=shape, channels=3)

    @jax.jit
    def both(x):
        call = partial(run, graphdef, params, stats, x, train=False)
        return call()[0], call(method="feature_maps")[0][-1]

    got, last = both(volumes(2, shape, 3))
    # x slowest, z fastest.
    np.testing.assert_array_equal(got.tokens, last.reshape(2, -1, last.shape[-1]))
    np.testing.assert_allclose(got.pooled, got.tokens.mean(axis=1), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segresnet", "resnet", "densenet"])
def test_remat_changes_neither_gradient_nor_statistics(name):
    def step(remat):
        graphdef, params, stats = small(name, shape=16, remat=remat)

        def loss(params):
            out, updated = run(graphdef, params, stats, volumes(), train=True)
            return jnp.sum(out.pooled**2 * jnp.arange(out.pooled.shape[-1])), updated

        traced = jax.jit(jax.value_and_grad(loss, has_aux=True)).trace(params)
        assert ("remat" in str(traced.jaxpr)) == (remat != "none")
        return stats, traced.lower().compile()(params)

    before, ((value, updated), gradient) = step("none")
    _, (again, gradient_again) = step("block")
    chex.assert_trees_all_close((value, updated), again, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(gradient, gradient_again, rtol=1e-3, atol=1e-3)
    # Training moves every running statistic.
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, updated)
    assert all(jax.tree.leaves(moved))


def test_shortcut_a_appends_zeros_and_has_no_parameters():
    _, params, stats = small("resnet", shortcut="A")
    assert not any("shortcut" in path for path in _paths((params, stats)))
    settings = {"kind": "A", "stride": 2, "bias": False, "dtype": jnp.float32}
    shortcut = Shortcut(4, 8, rngs=nnx.Rngs(0), **settings)
    x = volumes(1, (4, 4, 4), 4)
    got = shortcut(x)
    np.testing.assert_array_equal(got[..., :4], x[:, ::2, ::2, ::2])
    np.testing.assert_array_equal(got[..., 4:], 0)


def _paths(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path) for path, _ in flat]


@pytest.mark.parametrize("shape", [(8, 5, 4), (1, 2, 9)])
def test_pooling_equals_windows(shape):
    x = volumes(1, shape, 2)
    window, stride = (1, 3, 3, 3, 1), (1, 2, 2, 2, 1)
    pad = [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]
    want = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, pad)
    np.testing.assert_array_equal(overlapping_max(x), want)
    if min(shape) > 1:
        sums = jax.lax.reduce_window(
            x, 0.0, jax.lax.add, (1, 2, 2, 2, 1), stride, "VALID"
        )
        np.testing.assert_allclose(halving_mean(x), sums / 8, atol=1e-6)


BAD = [
    ("resnet", {"depth": 26}, "depth: .*50.*got 26"),
    ("resnet", {"shortcut": "C"}, "shortcut: .*'B'.*got C"),
    ("resnet", {"stem_stride": 4}, "stem_stride: .*got 4"),
    ("resnet", {"remat": "dots_saveable"}, "remat: .*block.*got dots_saveable"),
    ("resnet", {"channels": 0}, "channels: .*got 0"),
    ("segresnet", {"blocks": ()}, r"blocks: .*got \(\)"),
    ("segresnet", {"blocks": (1, 0)}, "blocks: .*got 0"),
    ("segresnet", {"dtype": "float16"}, "dtype: .*bfloat16.*got float16"),
    ("densenet", {"shape": (96, 96, 28)}, r"29 voxels or more, got \(96, 96, 28\)"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(name, keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        nnx.eval_shape(lambda: make_encoder(name, rngs=nnx.Rngs(0), **keywords))
    assert "\n" not in str(caught.value)
