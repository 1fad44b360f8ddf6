"""Several sequences of a subject to one vector; a missing one never counts.

To add a way: a module here with `.width`, called with features [b, s, w] and which of
them are present [b, s], and a row in `FUSIONS`.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import choice


class MeanFusion(nnx.Module):
    """The mean over the sequences that are there; 0 where none is."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.width = width

    def __call__(
        self, features: Float[Array, "b s w"], present: Bool[Array, "b s"]
    ) -> Float[Array, "b w"]:
        """Gives the fused vector."""
        count = jnp.maximum(present.sum(axis=1, keepdims=True), 1)
        return blank(features, present).sum(axis=1) / count


class AttentionFusion(nnx.Module):
    """A weighted mean: a softmax over the sequences that are there.

    A sequence's score is learnt from its features (after a LayerNorm) and from which
    sequence it is. All begin with the same weight: at first it is the mean.
    """

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.width = width
        self.norm = nnx.LayerNorm(width, use_fast_variance=False, rngs=rngs)
        self.query = nnx.Param(jnp.zeros((width,)))
        self.sequences = nnx.Param(jnp.zeros((inputs,)))

    def __call__(
        self, features: Float[Array, "b s w"], present: Bool[Array, "b s"]
    ) -> Float[Array, "b w"]:
        """Gives the fused vector."""
        known = blank(features, present)
        scores = self.norm(known) @ self.query[...] * self.width**-0.5
        # A row without any sequence gets even weights of nothing, and no NaN.
        scores = jnp.where(present, scores + self.sequences[...], -1e9)
        return jnp.einsum("bs,bsw->bw", jax.nn.softmax(scores, axis=1), known)


class ConcatFusion(nnx.Module):
    """The sequences side by side; in a missing one's place stands a learnt vector."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.width = inputs * width
        self.missing = nnx.Param(jnp.zeros((inputs, width)))

    def __call__(
        self, features: Float[Array, "b s w"], present: Bool[Array, "b s"]
    ) -> Float[Array, "b w"]:
        """Gives the fused vector, as wide as all sequences together."""
        filled = jnp.where(
            present[..., None], features.astype(jnp.float32), self.missing[...]
        )
        return filled.reshape(len(filled), -1)


FUSIONS = {
    "mean": MeanFusion,
    "attention": AttentionFusion,
    "concat": ConcatFusion,
}
"""Ways to fuse sequences by the name a config gives."""

Fusion = MeanFusion | AttentionFusion | ConcatFusion


def make_fusion(name: str, inputs: int, width: int, *, rngs: nnx.Rngs) -> Fusion:
    """Builds the fusion called `name`, of so many inputs of one width.

    Raises:
        InputRefusedError: there is no such fusion, or fewer than two inputs.
    """
    if inputs < 2:
        raise InputRefusedError(f"fusion: wanted 2 inputs or more, got {inputs}")
    return FUSIONS[choice(name, FUSIONS, "fusion")](inputs, width, rngs=rngs)


def blank(
    features: Float[Array, "b s w"], present: Bool[Array, "b s"]
) -> Float[Array, "b s w"]:
    """Gives features with 0 in place of missing ones, whatever stood there."""
    return jnp.where(present[..., None], features.astype(jnp.float32), 0.0)
