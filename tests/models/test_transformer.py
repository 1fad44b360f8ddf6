"""The written-out gradients of the layers, the forms of attention, what is saved."""

import re
from functools import partial
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import ViT, platforms, products, run, to_pure
from brainjax.models.attention import attend
from brainjax.models.transformer import REMAT_POLICIES

SMALL = {"shape": 16, "patch": 8, "width": 32, "depth": 2, "heads": 2}


def draw(*shape, seed=0, dtype="float32"):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def plain_attention(split):
    query, key, value = split[:, :, 0], split[:, :, 1], split[:, :, 2]
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def plain_norm(cells, scale, bias):
    centred = cells - cells.mean(-1, keepdims=True)
    return centred / jnp.sqrt(cells.var(-1, keepdims=True) + 1e-5) * scale + bias


TWINS = {
    "product": (products.product, lambda x, k: x @ k, [(2, 5, 8), (8, 6)]),
    "bias": (products.add_bias, lambda x, b: x + b, [(2, 5, 8), (8,)]),
    "gelu": (products.gelu, partial(jax.nn.gelu, approximate=False), [(2, 5, 8)]),
    "norm": (
        lambda x, s, b: products.normalise(x, s, b, 1e-5),
        plain_norm,
        [(2, 5, 8), (8,), (8,)],
    ),
    "attention": (partial(attend, form="xla"), plain_attention, [(2, 5, 3, 2, 8)]),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_written_gradients_are_those_of_autodiff(name, platform):
    ours, plain, shapes = TWINS[name]
    inputs = [3 * draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    slope = draw(*jax.eval_shape(plain, *inputs).shape, seed=9)

    def value_and_slopes(function):
        value, back = jax.vjp(function, *inputs)
        return value, back(slope)

    with platforms.traced_for(platform):
        got = value_and_slopes(ours)
    chex.assert_trees_all_close(got, value_and_slopes(plain), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_bfloat16_is_float32_rounded(name, platform):
    ours, plain, shapes = TWINS[name]
    wide = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    wide[0] = wide[0].astype("bfloat16").astype("float32")
    narrow = [wide[0].astype("bfloat16"), *wide[1:]]
    shape = jax.eval_shape(plain, *wide).shape
    slope = draw(*shape, seed=9, dtype="bfloat16")
    with platforms.traced_for(platform):
        value, back = jax.vjp(ours, *narrow)
        slopes = back(slope)
    wanted, plain_back = jax.vjp(plain, *wide)
    wanted_slopes = plain_back(slope.astype("float32"))
    assert value.dtype == slopes[0].dtype == jnp.bfloat16
    # Parameters are float32, and so are their gradients, never rounded on the way.
    assert all(leaf.dtype == jnp.float32 for leaf in slopes[1:])
    for got, want in zip((value, *slopes), (wanted, *wanted_slopes), strict=True):
        scale = float(jnp.abs(want).max())
        np.testing.assert_allclose(
            got.astype("float32"), want, atol=0.02 * scale, rtol=0.02
        )


def test_a_kernels_gradient_keeps_what_bfloat16_would_lose():
    cells, kernel = jnp.ones((300, 1), "bfloat16"), jnp.ones((1, 1))
    slope = jnp.ones((300, 1), "bfloat16").at[0].set(0.5)
    _, to_kernel = jax.vjp(products.product, cells, kernel)[1](slope)
    assert float(to_kernel[0, 0]) == 299.5  # bfloat16 knows 298 and 300


def gradient(volumes, **keywords):
    module = ViT(rngs=nnx.Rngs(0), **{**SMALL, **keywords})
    pure = to_pure(module)

    def loss(params):
        out, _ = run(pure.graphdef, params, {}, volumes, train=True)
        return jnp.sum(out.pooled**2 * jnp.arange(out.pooled.shape[1]))

    return jax.jit(jax.value_and_grad(loss)).trace(pure.params)


@pytest.mark.parametrize(
    "remat",
    [
        "products",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("block", *REMAT_POLICIES[1:])
        ),
    ],
)
def test_remat_changes_neither_value_nor_gradient(remat):
    def compute(name):
        traced = gradient(draw(2, 16, 16, 16, 1), remat=name)
        return traced.lower().compile()(to_pure(ViT(rngs=nnx.Rngs(0), **SMALL)).params)

    chex.assert_trees_all_close(compute(remat), compute("none"), rtol=1e-4, atol=1e-4)


def test_blocks_written_out_for_a_gpu_are_those_of_the_loop():
    volumes = draw(2, 16, 16, 16, 1)
    params = to_pure(ViT(rngs=nnx.Rngs(0), **SMALL)).params
    looped = gradient(volumes).lower()
    with platforms.traced_for("cuda"):
        written = gradient(volumes, attention="xla").lower()
    assert "stablehlo.while" in looped.as_text()
    assert "stablehlo.while" not in written.as_text()
    found = [lowered.compile()(params) for lowered in (looped, written)]
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_products_are_saved_and_less_than_all_is():
    # Enough tokens for what is saved to outweigh everything else.
    sizes = {"shape": 32, "patch": 4, "width": 64, "depth": 4}
    volumes = jax.ShapeDtypeStruct((2, 32, 32, 32, 1), jnp.float32)
    found, dots = {}, {}
    for remat in ("none", "products", "block"):
        module = nnx.eval_shape(
            lambda r=remat: ViT(rngs=nnx.Rngs(0), **{**SMALL, **sizes}, remat=r)
        )
        pure = to_pure(module)

        def loss(params, volumes, pure=pure):
            out, _ = run(pure.graphdef, params, {}, volumes, train=True)
            return jnp.sum(out.pooled**2)

        traced = jax.jit(jax.grad(loss)).trace(pure.params, volumes)
        memory = traced.lower().compile().memory_analysis()
        found[remat] = memory.temp_size_in_bytes
        dots[remat] = str(traced.jaxpr).count("dot_general")
    assert found["block"] < found["products"] < found["none"]
    # No product is done again for having saved the others.
    assert dots["products"] == dots["none"] < dots["block"]


def test_no_product_of_a_bfloat16_encoder_reads_float32():
    """As lowered for an NVIDIA GPU, forwards and backwards."""
    with platforms.traced_for("cuda"):
        traced = gradient(draw(2, 16, 16, 16, 1), dtype="bfloat16", attention="xla")
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    operands = re.findall(r"dot_general .*: \((.*)\) ->", text)
    assert len(operands) > 10
    assert not [types for types in operands if "f32" in types.replace("bf16", "")]


def test_fused_attention_is_one_call_each_way():
    target = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
    with platforms.traced_for("cuda"), mock.patch(target, return_value=91000):
        traced = gradient(draw(2, 16, 16, 16, 1), dtype="bfloat16", remat="products")
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert len(re.findall(r"__cudnn\$fmhaSoftmax\(", text)) == 1
    assert len(re.findall(r"__cudnn\$fmhaSoftmaxBackward\(", text)) == 1


@pytest.mark.parametrize(
    ("attention", "head", "bfloat16", "platform", "wanted"),
    [
        ("auto", 64, True, "cuda", "cudnn"),
        ("auto", 128, True, "cuda", "cudnn"),
        ("auto", 136, True, "cuda", "xla"),
        ("auto", 12, True, "cuda", "xla"),
        ("auto", 64, False, "cuda", "xla"),
        ("auto", 64, True, "cpu", "xla"),
        ("auto", 64, True, "rocm", "xla"),
        ("auto", 64, True, "tpu", "xla"),
        ("xla", 64, True, "cuda", "xla"),
        ("cudnn", 64, True, "cuda", "cudnn"),
        ("cudnn", 64, False, "cpu", "xla"),
    ],
)
def test_the_form_of_attention(attention, head, bfloat16, platform, wanted):
    with platforms.traced_for(platform):
        got = platforms.attention_form(attention, head=head, bfloat16=bfloat16)
    assert got == wanted


def test_fused_attention_that_cannot_be_is_refused():
    with (
        platforms.traced_for("cuda"),
        pytest.raises(InputRefusedError, match=r"wanted bfloat16.*got float32"),
    ):
        platforms.attention_form("cudnn", head=64, bfloat16=False)


def test_another_platform_is_traced_for_only_inside():
    before = platforms.platform()
    with platforms.traced_for("tpu"):
        assert platforms.platform() == "tpu"
    assert platforms.platform() == before
    with (
        pytest.raises(InputRefusedError, match=r"platform: .*got gpu"),
        platforms.traced_for("gpu"),
    ):
        pass


def test_an_unknown_attention_is_refused():
    with pytest.raises(InputRefusedError, match=r"attention: .*cudnn.*got flash"):
        nnx.eval_shape(lambda: ViT(rngs=nnx.Rngs(0), **SMALL, attention="flash"))
