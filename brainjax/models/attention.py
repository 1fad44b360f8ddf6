"""Self-attention over all tokens, in the forms of `platforms.ATTENTIONS`.

XLA's form has its gradient written out as in FlashAttention (Dao et al. 2022): it keeps
queries, keys, values, output and one number a row, and weighs again backwards. All of
its products have operands of the compute type; the softmax is float32.

Axes: b batch, t a token that asks, s one that answers, h head, d width of a head.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from brainjax.models.products import contract, contract_wide


def attend(split: Float[Array, "b t 3 h d"], *, form: str) -> Float[Array, "b t h d"]:
    """Mixes values by the softmax of query . key / sqrt(d), head by head.

    split: queries, keys and values, side by side. form: "xla" or "cudnn", as given by
    `platforms.attention_form`. Only reverse-mode derivatives.
    """
    if form == "cudnn":
        query, key, value = split[:, :, 0], split[:, :, 1], split[:, :, 2]
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    return _attend(split)


@jax.custom_vjp
def _attend(split):
    return _mix(split)[0]


def _mix(split):
    query, key, value = split.transpose(2, 0, 3, 1, 4)
    logits = contract_wide("bhtd,bhsd->bhts", query, key)
    peak = logits.max(axis=-1, keepdims=True)
    # Scaled and divided where it costs no further pass over the logits.
    weights = jnp.exp((logits - peak) * _scale(split))
    total = weights.sum(axis=-1, keepdims=True)
    mixed = contract_wide("bhts,bhsd->bhtd", weights.astype(value.dtype), value)
    mixed = (mixed / total).astype(value.dtype).transpose(0, 2, 1, 3)
    return mixed, (peak * _scale(split) + jnp.log(total))[..., 0]


def _forward(split):
    mixed, level = _mix(split)
    mixed = checkpoint_name(mixed, "attended")
    return mixed, (split, mixed, checkpoint_name(level, "level"))


def _backward(saved, slope):
    split, mixed, level = saved
    query, key, value = split.transpose(2, 0, 3, 1, 4)
    # What a row's shares lose because they sum to one.
    lost = (slope.astype(level.dtype) * mixed).sum(axis=-1).transpose(0, 2, 1)
    # Logits as columns [s, t], so that products run over the last axis of their first
    # operand: others are slow on XLA's CPU.
    logits = contract_wide("bhsd,bhtd->bhst", key, query)
    shares = jnp.exp(logits * _scale(split) - level[:, :, None])
    to_shares = contract_wide("bhsd,bthd->bhst", value, slope)
    to_logits = shares * (to_shares - lost[:, :, None]) * _scale(split)
    to_logits = to_logits.astype(split.dtype)
    to_value = contract("bhst,bthd->bhsd", shares.astype(split.dtype), slope)
    to_key = contract("bhst,bhtd->bhsd", to_logits, query)
    to_query = contract("bshd,bhst->bhdt", split[:, :, 1], to_logits)
    parts = (to_query.swapaxes(-1, -2), to_key, to_value)
    return (jnp.stack(parts).transpose(1, 3, 0, 2, 4),)


_attend.defvjp(_forward, _backward)


def _scale(split: Array) -> float:
    return split.shape[-1] ** -0.5
