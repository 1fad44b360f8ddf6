"""Keeping computations apart changes nothing but speed."""

import jax
import jax.numpy as jnp
import pytest

from brainjax.augment.fusion import apart


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap])
def test_apart_is_the_function_itself(wrap):
    values = jnp.arange(3.0)
    witness = jnp.array([0.0, 1.0, -jnp.inf])
    result = wrap(lambda w, v: apart(w, lambda v: (v + 1, v > 1), v))(witness, values)
    assert result[0].tolist() == [1, 2, 3]
    assert result[1].tolist() == [False, False, True]
