"""UNETR: its parts by hand, its interface, what it refuses; MONAI's is in interop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import run, to_pure
from brainjax.models.pure import count_parameters
from brainjax.models.unetr import UNETR, Double, instance_norm

ENCODER = {"shape": 32, "width": 24, "depth": 10, "heads": 2, "class_token": True}


def make(**keywords) -> UNETR:
    return UNETR(
        rngs=nnx.Rngs(0),
        **{"encoder": ENCODER, "feature_size": 2, "outputs": 3, **keywords},
    )


def volumes(b=2):
    return jax.random.normal(jax.random.key(1), (b, 32, 32, 32, 1))


def test_double_is_the_transposed_convolution():
    module = Double(3, 5, dtype=jnp.float32, rngs=nnx.Rngs(0))
    cells = jax.random.normal(jax.random.key(2), (2, 2, 3, 4, 3))
    got = module(cells)
    assert got.shape == (2, 4, 6, 8, 5)
    kernel = np.asarray(module.kernel[...])
    want = np.asarray(cells)[1, 1, 2, 3] @ kernel[1, 0, 1]
    np.testing.assert_allclose(got[1, 3, 4, 7], want, atol=1e-6)


def test_instance_norm_is_over_the_space_of_one_sample():
    cells = 5 + 3 * jax.random.normal(jax.random.key(2), (2, 4, 4, 4, 3))
    got = instance_norm(cells)
    np.testing.assert_allclose(got.mean(axis=(1, 2, 3)), np.zeros((2, 3)), atol=1e-5)
    np.testing.assert_allclose(got.std(axis=(1, 2, 3)), np.ones((2, 3)), atol=1e-4)
    assert instance_norm(cells.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.slow
def test_logits_and_features_of_a_volume():
    pure = to_pure(make())
    assert pure.batch_stats == {}

    @jax.jit
    def both(params, volumes):
        call = [pure.graphdef, params, {}, volumes]
        logits, _ = run(*call, train=False)
        pooled, _ = run(*call, train=False, method="encode")
        return logits, pooled

    logits, pooled = both(pure.params, volumes())
    assert logits.shape == (2, 32, 32, 32, 3)
    assert logits.dtype == jnp.float32
    assert pooled.shape == (2, 24)
    assert np.isfinite(logits).all()


def test_full_size_is_pinned():
    module = nnx.eval_shape(lambda: UNETR(rngs=nnx.Rngs(0)))
    # MONAI's UNETR of one input and one output channel, without cross attention.
    assert count_parameters(to_pure(module).params) == 92_783_825
    assert (module.shape, module.width) == ((96, 96, 96), 768)


BAD = [
    ({"encoder": {**ENCODER, "patch": 8}}, r"patch \(16, 16, 16\), got \(8, 8, 8\)"),
    ({"encoder": {**ENCODER, "depth": 9}}, "depth 10 or more, got 9"),
    ({"encoder": {**ENCODER, "name": "resnet"}}, "encoder of UNETR: .*got resnet"),
    ({"outputs": 0}, "outputs: .*1 or more, got 0"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        nnx.eval_shape(lambda: make(**keywords))
    assert "\n" not in str(caught.value)
