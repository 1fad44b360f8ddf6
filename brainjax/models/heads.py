"""What stands on an encoder: the SimCLR projector and the head of a task."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import at_least


class Projector(nnx.Module):
    """SimCLR's MLP (Chen et al. 2020): linear, BatchNorm, ReLU, linear, BatchNorm.

    BatchNorm's running statistics are `nnx.BatchStat`; the last one has no offset
    and no scale, as only directions enter the loss.

    Args:
        width: width of the encoder.
        hidden: width of the hidden layer.
        out: width of the embedding.
    """

    def __init__(
        self, width: int, *, hidden: int = 512, out: int = 128, rngs: nnx.Rngs
    ):
        self.linear1 = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(hidden, momentum=0.9, rngs=rngs)
        self.linear2 = nnx.Linear(hidden, out, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(
            out, momentum=0.9, use_bias=False, use_scale=False, rngs=rngs
        )

    def __call__(self, pooled: Float[Array, "b d"]) -> Float[Array, "b out"]:
        """Gives embeddings that are not yet of unit length."""
        hidden = nnx.relu(self.norm1(self.linear1(pooled)))
        return self.norm2(self.linear2(hidden))


class Head(nnx.Module):
    """LayerNorm, dropout and a linear map, or an MLP, from features to outputs.

    BrainIAC's heads have no LayerNorm: `norm=False`.

    Args:
        width: width of the encoder.
        outputs: number of outputs of the task.
        dropout: chance of dropping an input, where keys are given.
        norm: whether a LayerNorm comes first.
        hidden: width of a hidden layer with GELU before the linear map; 0 for none.
        scale: standard deviation of the linear map at the start is
            `scale / sqrt(width)`: outputs start close to 0, the mean of a
            standardised target and the even odds of classes.

    Raises:
        InputRefusedError: dropout is not in [0, 1), or hidden no size.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        dropout: float = 0.0,
        norm: bool = True,
        hidden: int = 0,
        scale: float = 0.1,
        rngs: nnx.Rngs,
    ):
        if not 0 <= dropout < 1:
            raise InputRefusedError(f"dropout: wanted 0 <= dropout < 1, got {dropout}")
        self.dropout = dropout
        start = nnx.initializers.variance_scaling(scale**2, "fan_in", "normal")
        self.norm = (
            nnx.LayerNorm(width, use_fast_variance=False, rngs=rngs) if norm else None
        )
        self.mlp = (
            nnx.Linear(width, hidden, rngs=rngs)
            if at_least(0, hidden, "head.hidden")
            else None
        )
        self.linear = nnx.Linear(hidden or width, outputs, kernel_init=start, rngs=rngs)

    def __call__(
        self, pooled: Float[Array, "b d"], keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b k"]:
        """Gives float32 outputs; `keys`, one per sample, turn the dropout on.

        A key per sample keeps the draw the same however a batch is cut up.
        """
        hidden = pooled.astype(jnp.float32)
        if self.norm is not None:
            hidden = self.norm(hidden)
        if self.mlp is not None:
            hidden = nnx.gelu(self.mlp(hidden))
        if keys is not None and self.dropout > 0:
            hidden = drop(hidden, keys, self.dropout)
        return self.linear(hidden)


def drop(
    hidden: Float[Array, "b d"], keys: Key[Array, " b"], rate: float
) -> Float[Array, "b d"]:
    """Zeroes a share `rate` of each row, scaling the rest so that means stay."""
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, hidden.shape[1:]))
    return jnp.where(keep(keys), hidden / (1 - rate), 0.0)
