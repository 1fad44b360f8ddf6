"""Attentive pooling: learned queries say which tokens of a volume count."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least


class AttentivePool(nnx.Module):
    """Weighted means of an encoder's tokens, one a learned query.

    A query's weights are a softmax, over the tokens, of its products with keys that a
    linear map makes of them (after a LayerNorm); queries begin close to 0, so that each
    mean begins close to the plain one. The result of all is side by side.

    Args:
        width: of the encoder.
        queries: how many.
    """

    def __init__(self, width: int, *, queries: int = 1, rngs: nnx.Rngs):
        self.inputs = width
        self.width = width * at_least(1, queries, "head.queries")
        self.norm = nnx.LayerNorm(width, use_fast_variance=False, rngs=rngs)
        self.keys = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        start = nnx.initializers.normal(0.02)
        self.queries = nnx.Param(start(rngs.params(), (queries, width)))

    def __call__(self, tokens: Float[Array, "b n d"] | None) -> Float[Array, "b w"]:
        """Gives float32 features.

        Raises:
            InputRefusedError: the encoder gives no tokens, or none of its width.
        """
        if tokens is None or tokens.ndim != 3 or tokens.shape[-1] != self.inputs:
            got = "none" if tokens is None else list(tokens.shape)
            raise InputRefusedError(
                f"head.pool attention: wanted an encoder with tokens [b, n, "
                f"{self.inputs}], got {got}; use pool = 'encoder'"
            )
        known = self.norm(tokens.astype(jnp.float32))
        scores = jnp.einsum("qd,bnd->bqn", self.queries[...], self.keys(known))
        weights = jax.nn.softmax(scores * self.inputs**-0.5, axis=-1)
        return jnp.einsum("bqn,bnd->bqd", weights, known).reshape(len(known), -1)
