"""Transformer blocks of MONAI's arithmetic, stacked and run by a scan.

Blocks are pre-norm, with one qkv product, exact GELU and LayerNorm epsilon 1e-5. They
are one stack of parameters with a leading depth axis: they compile once.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from brainjax.models.attention import attend
from brainjax.models.platforms import attention_form, unrolled_blocks
from brainjax.models.products import LayerNorm, Linear, gelu

SAVED = ("qkv", "level", "attended", "middle", "hidden")
"""What "products" saves of a block, besides its input: see `Block`."""

REMAT_POLICIES = (
    "products",
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "checkpoint_dots",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots_with_no_batch_dims",
)
"""Policies that `remat` may name.

"products" saves what the big products of a block give, and computes norms, GELU and
softmax again; the others are of `jax.checkpoint_policies`.
"""

LAYER_NORM_EPSILON = 1e-5


class Block(nnx.Module):
    """One pre-norm transformer block: attention, then an MLP, each added on."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        *,
        qkv_bias,
        dtype,
        attention: str = "auto",
        rngs: nnx.Rngs,
    ):
        linear = {
            "dtype": dtype,
            "kernel_init": nnx.initializers.xavier_uniform(),
            "rngs": rngs,
        }
        self.heads = heads
        self.attention = attention
        self.norm1 = layer_norm(width, dtype, rngs)
        self.qkv = Linear(width, 3 * width, use_bias=qkv_bias, **linear)
        self.out = Linear(width, width, **linear)
        self.norm2 = layer_norm(width, dtype, rngs)
        self.mlp1 = Linear(width, mlp_width, **linear)
        self.mlp2 = Linear(mlp_width, width, **linear)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Gives the tokens after attention and MLP."""
        b, n, d = tokens.shape
        # With three axes XLA's GPU compiler lays the stream out batch last, and copies
        # it back and forth: a fifth of a step's traffic.
        rows = tokens.reshape(b * n, d)
        rows = rows + self.attend(self.norm1(rows), b)
        rows = checkpoint_name(rows, "middle")
        hidden = checkpoint_name(self.mlp1(self.norm2(rows)), "hidden")
        return (rows + self.mlp2(gelu(hidden))).reshape(b, n, d)

    def attend(self, rows: Float[Array, "r d"], volumes: int) -> Float[Array, "r d"]:
        """Self-attention over a volume's tokens, scaled by 1/sqrt(width / heads).

        rows: the tokens of so many volumes, one after the other.
        """
        d = rows.shape[-1]
        head = d // self.heads
        split = checkpoint_name(self.qkv(rows), "qkv")
        form = attention_form(
            self.attention, head=head, bfloat16=split.dtype == jnp.bfloat16
        )
        mixed = attend(split.reshape(volumes, -1, 3, self.heads, head), form=form)
        return self.out(mixed.reshape(-1, d))


def layer_norm(width: int, dtype, rngs: nnx.Rngs) -> LayerNorm:
    """A LayerNorm with MONAI's epsilon and the exact two-pass variance."""
    return LayerNorm(
        width,
        epsilon=LAYER_NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        rngs=rngs,
    )


def stack_blocks(depth: int, rngs: nnx.Rngs, **keywords) -> Block:
    """One `Block` whose parameters have a leading axis of `depth`."""

    @nnx.split_rngs(splits=depth)
    @nnx.vmap(in_axes=0, out_axes=0)
    def build(rngs: nnx.Rngs) -> Block:
        return Block(rngs=rngs, **keywords)

    return build(rngs)


def run_blocks(
    blocks: Block, tokens: Float[Array, "b n d"], remat: str
) -> Float[Array, "b n d"]:
    """Runs the tokens through a stack of blocks, one after the other."""
    unroll = remat == "none" and unrolled_blocks()
    scan = nnx.scan(
        _make_step(remat), in_axes=(0, nnx.Carry), out_axes=nnx.Carry, unroll=unroll
    )
    return scan(blocks, tokens)


def collect_blocks(
    blocks: Block, tokens: Float[Array, "b n d"], remat: str
) -> Float[Array, "depth b n d"]:
    """Gives the tokens after every block of a stack."""
    step = _make_step(remat)

    def collect(block: Block, tokens):
        tokens = step(block, tokens)
        return tokens, tokens

    scan = nnx.scan(collect, in_axes=(0, nnx.Carry), out_axes=(nnx.Carry, 0))
    return scan(blocks, tokens)[1]


def _make_step(remat: str):
    def step(block: Block, tokens):
        return block(tokens)

    if remat == "none":
        return step
    return nnx.remat(step, policy=_policy(remat), prevent_cse=False)


def _policy(remat: str):
    if remat == "block":
        return None  # jax's default: nothing is saved but the carry
    if remat == "products":
        return _save_products
    return getattr(jax.checkpoint_policies, remat)


def _save_products(primitive, *arguments, **settings) -> bool:
    # The fused kernel's own residual has no name that we could give it.
    if primitive.name.startswith("dot_product_attention_fwd"):
        return True
    named = jax.checkpoint_policies.save_only_these_names(*SAVED)
    return bool(named(primitive, *arguments, **settings))
