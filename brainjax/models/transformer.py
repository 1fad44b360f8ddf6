"""Transformer blocks of MONAI's arithmetic, stacked and run by a scan.

Blocks are pre-norm, with one qkv product, exact GELU and LayerNorm epsilon 1e-5. They
are one stack of parameters with a leading depth axis: they compile once.
"""

import jax
from flax import nnx
from jaxtyping import Array, Float

REMAT_POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "checkpoint_dots",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots_with_no_batch_dims",
)
"""Policies of `jax.checkpoint_policies` that `remat` may name."""

LAYER_NORM_EPSILON = 1e-5


class Block(nnx.Module):
    """One pre-norm transformer block: attention, then an MLP, each added on."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, *, qkv_bias, dtype, rngs: nnx.Rngs
    ):
        linear = {
            "dtype": dtype,
            "kernel_init": nnx.initializers.xavier_uniform(),
            "rngs": rngs,
        }
        self.heads = heads
        self.norm1 = layer_norm(width, dtype, rngs)
        self.qkv = nnx.Linear(width, 3 * width, use_bias=qkv_bias, **linear)
        self.out = nnx.Linear(width, width, **linear)
        self.norm2 = layer_norm(width, dtype, rngs)
        self.mlp1 = nnx.Linear(width, mlp_width, **linear)
        self.mlp2 = nnx.Linear(mlp_width, width, **linear)

    def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Gives the tokens after attention and MLP."""
        tokens = tokens + self.attend(self.norm1(tokens))
        hidden = nnx.gelu(self.mlp1(self.norm2(tokens)), approximate=False)
        return tokens + self.mlp2(hidden)

    def attend(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Self-attention over all tokens, scaled by 1/sqrt(width / heads)."""
        b, n, d = tokens.shape
        split = self.qkv(tokens).reshape(b, n, 3, self.heads, d // self.heads)
        query, key, value = split[:, :, 0], split[:, :, 1], split[:, :, 2]
        mixed = jax.nn.dot_product_attention(query, key, value)
        return self.out(mixed.reshape(b, n, d))


def layer_norm(width: int, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A LayerNorm with MONAI's epsilon and the exact two-pass variance."""
    return nnx.LayerNorm(
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
    scan = nnx.scan(_make_step(remat), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
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
    # "block" saves nothing but the carry, which is jax's default policy.
    policy = None if remat == "block" else getattr(jax.checkpoint_policies, remat)
    return nnx.remat(step, policy=policy, prevent_cse=False)
