"""Encoders: pinned sizes, one interface, the errors, and the arithmetic."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.scipy.special import erf

from brainjax.errors import InputRefusedError
from brainjax.models import ENCODERS, Encoded, ViT, make_encoder, run, to_pure
from brainjax.models.cnn import max_pool, stem_patches
from brainjax.models.pure import count_parameters
from brainjax.models.vit import patchify

SMALL = {
    "vit": {"width": 16, "depth": 2, "heads": 2, "patch": 8},
    "cnn": {"width": 8},
    "plain_cnn": {"channels": (4, 4, 8, 8, 8)},
    "resnet": {"depth": 10, "init_filters": 4},
    "segresnet": {"init_filters": 4, "blocks": (1, 2)},
    "densenet": {"init_filters": 8, "growth": 4, "blocks": (2, 2)},
}
# Parameters at 96 cubed. ViT-B is MONAI's 88.3 M without its qkv bias.
COUNTS = [
    ("vit", {"size": "Ti"}, 6_159_936),
    ("vit", {"size": "S"}, 22_936_704),
    ("vit", {"size": "B"}, 88_340_736),
    ("vit", {"size": "L"}, 306_654_208),
    ("vit", {"size": "Ti", "patch": 8}, 5_762_112),
    ("vit", {"size": "S", "patch": 8}, 22_141_056),
    ("vit", {"size": "B", "patch": 8}, 86_749_440),
    ("vit", {"size": "L", "patch": 8}, 304_532_480),
    ("vit", {"size": "B", "qkv_bias": True}, 88_368_384),
    ("cnn", {}, 2_845_728),
    ("plain_cnn", {}, 291_824),
    ("resnet", {"depth": 10}, 14_356_416),
    ("resnet", {"depth": 18}, 33_160_896),
    ("resnet", {"depth": 18, "shortcut": "A"}, 32_986_176),
    ("resnet", {"depth": 34}, 63_470_528),
    ("resnet", {"depth": 50}, 46_158_912),
    ("resnet", {"depth": 50, "shortcut_bias": False}, 46_155_072),
    ("segresnet", {}, 77_760_992),
    ("densenet", {}, 11_242_624),
]


def volumes(b=2, side=16, seed=1):
    return jax.random.normal(jax.random.key(seed), (b, side, side, side, 1))


@pytest.mark.parametrize(("name", "keywords", "count"), COUNTS)
def test_parameter_counts_are_pinned(name, keywords, count):
    module = nnx.eval_shape(lambda: make_encoder(name, rngs=nnx.Rngs(0), **keywords))
    assert count_parameters(to_pure(module).params) == count


def test_every_encoder_has_a_pinned_count_and_a_small_form():
    assert {row[0] for row in COUNTS} == set(SMALL) == set(ENCODERS)


COMPILES_LONG = {"resnet": pytest.mark.slow, "segresnet": pytest.mark.slow}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=COMPILES_LONG.get(n, ())) for n in ENCODERS]
)
@pytest.mark.parametrize(
    "dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"]
)
def test_one_interface(name, dtype):
    module = make_encoder(name, shape=16, dtype=dtype, rngs=nnx.Rngs(0), **SMALL[name])
    pure = to_pure(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(pure.params)} == {jnp.float32.dtype}

    @jax.jit
    def encode(params, stats, x):
        return run(pure.graphdef, params, stats, x, train=False)[0]

    got = encode(pure.params, pure.batch_stats, volumes())
    assert isinstance(got, Encoded)
    assert got.pooled.shape == (2, module.width)
    assert got.pooled.dtype == jnp.float32
    assert got.tokens.dtype == jnp.dtype(dtype)
    assert got.tokens.shape[::2] == (2, module.width)
    assert np.isfinite(got.pooled).all()
    # One sample's answer does not depend on its neighbours in the batch.
    others = volumes().at[1:].set(volumes(seed=2)[1:])
    again = encode(pure.params, pure.batch_stats, others)
    np.testing.assert_allclose(again.pooled[0], got.pooled[0], atol=1e-5)
    assert not np.allclose(again.pooled[1], got.pooled[1], atol=1e-3)


@pytest.mark.parametrize("name", ENCODERS)
def test_wrong_shape_is_refused_with_both(name):
    module = make_encoder(name, shape=16, rngs=nnx.Rngs(0), **SMALL[name])
    with pytest.raises(InputRefusedError, match=r"16, 16, 16, 1\], got \[2, 24, 24"):
        module(volumes(side=24))


BAD = [
    ({"shape": (100, 96, 96)}, r"patch \(16, 16, 16\) does not divide .*100, 96, 96"),
    ({"width": 100, "heads": 3}, "heads 3 does not divide width 100"),
    ({"size": "Huge"}, "size: .*'B'.*got Huge"),
    ({"pool": "max"}, "pool: .*first_token.*got max"),
    ({"dtype": "float16"}, "dtype: .*bfloat16.*got float16"),
    ({"remat": "some"}, "remat: .*block.*got some"),
    ({"patch": (16, 16)}, r"patch: .*got \(16, 16\)"),
    ({"shape": 0}, "shape: .*got 0"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        nnx.eval_shape(lambda: ViT(rngs=nnx.Rngs(0), **keywords))
    assert "\n" not in str(caught.value)


def test_unknown_encoder_is_refused():
    with pytest.raises(InputRefusedError, match=r"encoder: .*vit.*got vlt"):
        make_encoder("vlt", rngs=nnx.Rngs(0))


def test_patchify_keeps_every_voxel_in_place():
    x = jnp.arange(4 * 6 * 4.0).reshape(1, 4, 6, 4, 1)
    patches = patchify(x, (2, 3, 2))
    assert patches.shape == (1, 8, 12)
    np.testing.assert_array_equal(
        patches[0, 3], np.asarray(x)[0, 0:2, 3:6, 2:4, 0].ravel()
    )


def test_patch_embedding_is_the_strided_convolution():
    module = ViT(shape=16, rngs=nnx.Rngs(0), **SMALL["vit"])
    kernel = module.embed.kernel[...].reshape(8, 8, 8, 1, 16)
    want = jax.lax.conv_general_dilated(
        volumes(),
        kernel,
        (8, 8, 8),
        "VALID",
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )
    got = module.embed(patchify(volumes(), (8, 8, 8)))
    np.testing.assert_allclose(got, want.reshape(2, 8, 16), atol=2e-5)


def vit_by_hand(params, x, heads):
    """The forward pass in plain products, one block after the other."""

    def norm(x, p):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def linear(x, p):
        return x @ p["kernel"] + p.get("bias", 0.0)

    x = linear(patchify(x, (8, 8, 8)), params["embed"]) + params["positions"]
    b, n, d = x.shape
    for i in range(params["blocks"]["out"]["bias"].shape[0]):
        p = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        qkv = linear(norm(x, p["norm1"]), p["qkv"]).reshape(b, n, 3, heads, d // heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(d // heads), axis=-1)
        x = x + linear((weights @ v).swapaxes(1, 2).reshape(b, n, d), p["out"])
        h = linear(norm(x, p["norm2"]), p["mlp1"])
        x = x + linear(h * 0.5 * (1 + erf(h / np.sqrt(2))), p["mlp2"])
    return norm(x, params["norm"])


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_vit_equals_plain_products(qkv_bias):
    module = ViT(shape=16, qkv_bias=qkv_bias, rngs=nnx.Rngs(0), **SMALL["vit"])
    pure = to_pure(module)
    # Biases and scales start at 0 and 1; move them so that they are tested too.
    keys = iter(jax.random.split(jax.random.key(5), 40))
    params = jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), pure.params
    )
    got, _ = run(pure.graphdef, params, {}, volumes(), train=False)
    want = jax.jit(partial(vit_by_hand, heads=2))(params, volumes())
    np.testing.assert_allclose(got.tokens, want, atol=2e-5)
    np.testing.assert_allclose(got.pooled, want.mean(axis=1), atol=2e-5)


def test_first_token_pools_the_first_patch():
    small = {**SMALL["vit"], "shape": 16, "pool": "first_token"}
    got = ViT(rngs=nnx.Rngs(0), **small)(volumes())
    np.testing.assert_array_equal(got.pooled, got.tokens[:, 0])


@pytest.mark.slow
def test_remat_changes_neither_value_nor_gradient():
    def gradient(remat):
        module = ViT(shape=16, remat=remat, rngs=nnx.Rngs(0), **SMALL["vit"])
        graphdef, params, stats = to_pure(module)

        def loss(params):
            out, _ = run(graphdef, params, stats, volumes(), train=True)
            return jnp.sum(out.pooled**2 * jnp.arange(16))

        traced = jax.jit(jax.value_and_grad(loss)).trace(params)
        assert ("remat" in str(traced.jaxpr)) == (remat != "none")
        return traced.lower().compile()(params)

    want = gradient("none")
    for remat in ("block", "dots_saveable"):
        chex.assert_trees_all_close(gradient(remat), want, rtol=1e-4, atol=1e-4)


def test_stem_patches_are_the_strided_convolution():
    x = volumes(side=8)
    kernel = jax.random.normal(jax.random.key(3), (4, 4, 4, 1, 2))
    want = jax.lax.conv_general_dilated(
        x,
        kernel,
        (2, 2, 2),
        [(1, 1)] * 3,
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )
    # Blocks of two voxels by corner, then the voxel in the block.
    folded = kernel.reshape(2, 2, 2, 2, 2, 2, 2).transpose(0, 2, 4, 1, 3, 5, 6)
    got = stem_patches(x) @ folded.reshape(64, 2)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_max_pool_keeps_the_last_cell_of_an_odd_side():
    x = -jnp.arange(1.0, 28).reshape(1, 3, 3, 3, 1)
    pooled = max_pool(x)
    assert pooled.shape == (1, 2, 2, 2, 1)
    assert pooled[0, 1, 1, 1, 0] == x[0, 2, 2, 2, 0]
    assert pooled[0, 0, 0, 0, 0] == x[0, 0, 0, 0, 0]
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    assert gradient.sum() == 8
