"""Convolution: the form that is fast on a CPU equals the plain one, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.models import planes
from brainjax.models.convolution import Convolution, convolve, convolve_plainly

# Kernel, stride, dilation, shape of the map, channels before and after.
CASES = [
    (1, 2, 1, (4, 5, 6), 6, 7),
    (3, 1, 1, (7, 6, 5), 6, 5),
    (3, 1, 1, (6, 7, 8), 1, 3),
    (3, 1, 2, (7, 8, 6), 6, 4),
    (3, 2, 1, (7, 8, 9), 6, 5),
    (7, 2, 1, (12, 11, 9), 1, 4),
    ((1, 3, 3), 2, 1, (5, 6, 7), 5, 4),
]
RARER = [
    (1, 1, 1, (4, 5, 6), 5, 3),
    (3, 1, 1, (6, 5, 4), 8, 1),
    (3, 1, 2, (5, 6, 7), 2, 4),
    (3, 2, 1, (1, 2, 5), 5, 7),
    (3, 2, 2, (8, 7, 6), 5, 4),
    (7, 1, 1, (6, 7, 8), 2, 3),
    (7, 2, 1, (9, 8, 7), 5, 3),
    (2, 2, 1, (4, 5, 6), 6, 3),
    ((3, 1, 3), 1, 1, (5, 6, 7), 5, 4),
    ((3, 3, 1), 2, 1, (4, 4, 5), 3, 4),
    (3, 1, 1, (2, 2, 2), 40, 8),
    (3, 1, 1, (6, 20, 20), 5, 4),
]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in RARER]


def example(kernel, shape, before, after, dtype=jnp.float32, b=2):
    """Gives a map and a kernel of unit scale."""
    sides = (kernel,) * 3 if isinstance(kernel, int) else kernel
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((b, *shape, before))
    weights = rng.standard_normal((*sides, before, after))
    weights /= np.sqrt(np.prod(sides) * before)
    return jnp.asarray(cells, dtype), jnp.asarray(weights, dtype)


def value_and_slopes(function, cells, kernel, **how):
    """Gives what a convolution gives and the slopes of a random loss of that."""

    @jax.jit
    def run(cells, kernel):
        found, pull = jax.vjp(lambda *both: function(*both, **how), cells, kernel)
        weight = jax.random.normal(jax.random.key(1), found.shape, found.dtype)
        return found, *pull(weight)

    return run(cells, kernel)


def assert_close(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        gap = jnp.abs(one.astype(jnp.float32) - other.astype(jnp.float32)).max()
        assert float(gap) <= tolerance * float(other.astype(jnp.float32).std())


@pytest.mark.parametrize(("kernel", "stride", "dilation", "shape", "c", "d"), CASES)
def test_equals_the_plain_form_in_value_and_slopes(
    kernel, stride, dilation, shape, c, d
):
    cells, weights = example(kernel, shape, c, d)
    how = {"stride": stride, "dilation": dilation}
    found = value_and_slopes(convolve, cells, weights, **how)
    wanted = value_and_slopes(convolve_plainly, cells, weights, **how)
    assert_close(found, wanted, 1e-5)


@pytest.mark.parametrize("case", [(1, 2, 6), (3, 1, 6), (3, 2, 6), (7, 2, 1)])
def test_bfloat16_is_computed_wider_and_rounded_once(case):
    side, stride, before = case
    cells, weights = example(side, (6, 7, 8), before, 4, jnp.bfloat16)
    found = value_and_slopes(convolve, cells, weights, stride=stride)
    wide = value_and_slopes(
        convolve_plainly,
        cells.astype(jnp.float32),
        weights.astype(jnp.float32),
        stride=stride,
    )
    assert found[0].dtype == found[1].dtype == found[2].dtype == jnp.bfloat16
    # The float32 run's loss has other weights, so only the values can be compared;
    # a sum in another order may land on the next bfloat16, 2^-8 of a value away.
    assert_close(found[:1], [wide[0].astype(jnp.bfloat16)], 2**-7)


@pytest.mark.parametrize("stride", [1, 2])
def test_vmap_over_cells_and_kernels_equals_one_by_one(stride):
    pairs = [example(3, (5, 4, 6), 6, 3) for _ in range(2)]
    cells = jnp.stack([cells * (1 + n) for n, (cells, _) in enumerate(pairs)])
    kernels = jnp.stack([kernel - n for n, (_, kernel) in enumerate(pairs)])

    @jax.jit
    def slopes(cells, kernel):
        def loss(cells, kernel):
            return jnp.square(convolve(cells, kernel, stride=stride)).sum()

        return jax.grad(loss, (0, 1))(cells, kernel)

    both = jax.jit(jax.vmap(slopes))(cells, kernels)
    shared = jax.jit(jax.vmap(slopes, (0, None)))(cells, kernels[0])
    for n in range(2):
        single = slopes(cells[n], kernels[n])
        assert_close([slope[n] for slope in both], single, 1e-5)
        single = slopes(cells[n], kernels[0])
        assert_close([slope[n] for slope in shared], single, 1e-5)


def test_slopes_have_slopes_and_survive_checkpointing():
    cells, weights = example(3, (4, 5, 3), 6, 5)

    def twice(function):
        def loss(kernel):
            return jnp.sum(jax.checkpoint(function)(cells, kernel) ** 3)

        def steepness(kernel):
            return jnp.square(jax.grad(loss)(kernel)).sum()

        return jax.jit(jax.grad(steepness))(weights)

    assert_close([twice(convolve)], [twice(convolve_plainly)], 1e-5)


def test_accelerators_keep_the_convolution_of_xla(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    cells, weights = example(3, (4, 5, 6), 6, 3)
    text = str(jax.make_jaxpr(convolve)(cells, weights))
    assert "conv_general_dilated" in text
    assert "custom_vjp" not in text


def test_many_taps_of_many_channels_are_left_to_xla():
    assert planes.fits_planes((3, 3, 3, 64, 64), 2, 1)
    assert planes.fits_planes((7, 7, 7, 1, 64), 2, 1)
    assert not planes.fits_planes((7, 7, 7, 64, 64), 1, 1)
    assert not planes.fits_planes((3, 3, 3, 64, 64), 2, 2)


def test_the_module_adds_its_bias_in_the_compute_type():
    module = Convolution(
        2, 3, kernel=3, bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    module.bias[...] = jnp.arange(3.0)
    found = module(jnp.zeros((1, 4, 4, 4, 2)))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found[0, 0, 0, 0].astype(jnp.float32), [0, 1, 2])
