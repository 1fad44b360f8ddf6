"""Layers of matrix products in a compute type, with their gradients written out.

Autodiff would round the gradient of a bfloat16 kernel to bfloat16 before it reaches the
float32 parameter, and keep several arrays for each norm and GELU. Here gradients of
parameters are summed and handed over in float32, every operand of a product is of the
compute type, and a layer keeps nothing but its input. Only reverse-mode derivatives
(`jax.grad`, `jax.vjp`) exist.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from brainjax.models.platforms import separate_operands, wide_products


class Linear(nnx.Linear):
    """`nnx.Linear`, parameters and values, with a float32 gradient of the kernel."""

    def __call__(self, inputs: Float[Array, "*b k"]) -> Float[Array, "*b m"]:
        """Gives inputs @ kernel + bias, in the layer's compute type."""
        outputs = product(inputs.astype(self.dtype or inputs.dtype), self.kernel[...])
        return outputs if self.bias is None else add_bias(outputs, self.bias[...])


class LayerNorm(nnx.LayerNorm):
    """`nnx.LayerNorm` over the last axis with the exact two-pass variance."""

    def __call__(self, inputs: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Gives normalised cells, scaled and shifted, in the layer's compute type."""
        assert self.scale is not None, "never made without"
        assert self.bias is not None, "never made without"
        outputs = normalise(inputs, self.scale[...], self.bias[...], self.epsilon)
        return outputs.astype(self.dtype or inputs.dtype)


@jax.custom_vjp
def product(
    cells: Float[Array, "*b k"], kernel: Float[Array, "k m"]
) -> Float[Array, "*b m"]:
    """Gives cells @ kernel in the type of the cells; the kernel may be wider."""
    return contract("...k,km->...m", cells, kernel.astype(cells.dtype))


def _product_backward(saved, slope):
    cells, kernel = saved
    to_cells = contract("...m,km->...k", slope, kernel.astype(cells.dtype))
    if separate_operands():
        cells = lax.optimization_barrier(cells)
    # Over all rows at once, cells first: of this form XLA's CPU makes a plain product
    # and the transposition it needs; of the form that autodiff writes it does not.
    rows = tuple(range(cells.ndim - 1))
    wide = sum_type(cells.dtype)
    to_kernel = lax.dot_general(
        cells, slope, ((rows, rows), ((), ())), preferred_element_type=wide
    )
    return to_cells, to_kernel.astype(kernel.dtype)


product.defvjp(lambda *given: (product(*given), given), _product_backward)


@jax.custom_vjp
def add_bias(cells: Float[Array, "*b m"], bias: Float[Array, " m"]):
    """Gives cells + bias in the type of the cells; the bias may be wider."""
    return cells + bias.astype(cells.dtype)


def _add_bias_backward(bias, slope):
    return slope, _sum_rows(_widen(slope)).astype(bias.dtype)


add_bias.defvjp(lambda cells, bias: (add_bias(cells, bias), bias), _add_bias_backward)


@jax.custom_vjp
def gelu(cells: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Gives the exact GELU x Phi(x) (Hendrycks and Gimpel 2016), worked in float32."""
    wide = _widen(cells)
    return (wide * _normal_share(wide)).astype(cells.dtype)


def _gelu_backward(cells, slope):
    wide = _widen(cells)
    density = jnp.exp(-0.5 * wide * wide) * (2 * jnp.pi) ** -0.5
    steep = _normal_share(wide) + wide * density
    return ((slope * steep).astype(cells.dtype),)


gelu.defvjp(lambda cells: (gelu(cells), cells), _gelu_backward)


@jax.custom_vjp
def normalise(
    cells: Float[Array, "*b d"],
    scale: Float[Array, " d"],
    bias: Float[Array, " d"],
    epsilon: float,
) -> Float[Array, "*b d"]:
    """Gives cells of mean 0 and variance 1 over the last axis, times scale, plus bias.

    Worked in float32, given in the type of the cells.
    """
    return (_standard(cells, epsilon)[0] * scale + bias).astype(cells.dtype)


def _normalise_forward(cells, scale, bias, epsilon):
    return normalise(cells, scale, bias, epsilon), (cells, scale, bias, epsilon)


def _normalise_backward(saved, slope):
    cells, scale, bias, epsilon = saved
    standard, steep = _standard(cells, epsilon)
    slope = _widen(slope)
    inner = slope * scale
    own = (inner * standard).mean(axis=-1, keepdims=True)
    to_cells = steep * (inner - inner.mean(axis=-1, keepdims=True) - standard * own)
    to_scale = _sum_rows(slope * standard).astype(scale.dtype)
    to_bias = _sum_rows(slope).astype(bias.dtype)
    return to_cells.astype(cells.dtype), to_scale, to_bias, jnp.zeros_like(epsilon)


normalise.defvjp(_normalise_forward, _normalise_backward)


def contract(form: str, one: Array, other: Array) -> Array:
    """Gives an einsum of two arrays of one type in that type, summed in float32."""
    wide = sum_type(one.dtype) if wide_products() else one.dtype
    return jnp.einsum(form, one, other, preferred_element_type=wide).astype(one.dtype)


def contract_wide(form: str, one: Array, other: Array) -> Array:
    """Gives an einsum of two arrays of one type, in float32 or the wider type."""
    return jnp.einsum(form, one, other, preferred_element_type=sum_type(one.dtype))


def sum_type(dtype):
    """Gives the type that sums of this one are held in: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def _standard(cells: Array, epsilon: float) -> tuple[Array, Array]:
    centred = _widen(cells)
    centred = centred - centred.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    steep = lax.rsqrt(variance + epsilon)
    return centred * steep, steep


def _normal_share(wide: Array) -> Array:
    return 0.5 * (1.0 + lax.erf(wide * 0.5**0.5))


def _sum_rows(wide: Array) -> Array:
    return wide.sum(axis=tuple(range(wide.ndim - 1)))


def _widen(cells: Array) -> Array:
    return cells.astype(sum_type(cells.dtype))
