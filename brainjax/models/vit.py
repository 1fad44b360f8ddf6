"""The 3D vision transformer (Dosovitskiy et al. 2021), on volumes.

Its arithmetic is that of MONAI's `ViT` (pre-norm blocks, one qkv product, exact GELU,
LayerNorm epsilon 1e-5, learned positions), so such weights can be carried over. The
patch embedding is one matrix product over patchified voxels, and the blocks are one
stack of parameters with a leading depth axis, run by a scan: they compile once.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import (
    Encoded,
    check_volumes,
    choice,
    compute_dtype,
    triple,
)

SIZES = {
    "Ti": {"width": 192, "depth": 12, "heads": 3, "mlp_width": 768},
    "S": {"width": 384, "depth": 12, "heads": 6, "mlp_width": 1536},
    "B": {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072},
}
"""Width, depth, heads and MLP width by the field's names of the sizes."""

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


def patchify(
    volumes: Float[Array, "b x y z 1"], patch: tuple[int, int, int]
) -> Float[Array, "b n p"]:
    """Cuts volumes into flat patches; patches and voxels both have z fastest."""
    counts = [side // p for side, p in zip(volumes.shape[1:4], patch, strict=True)]
    (i, j, k), (p, q, r) = counts, patch
    cells = volumes.reshape(-1, i, p, j, q, k, r)
    return cells.transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, i * j * k, p * q * r)


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


class ViT(nnx.Module):
    """A 3D vision transformer; `ViT(...)(volumes)` gives `Encoded`.

    Args:
        shape: voxels of a volume along x, y, z.
        patch: voxels of a patch, one number or three; it must divide `shape`.
        size: "Ti", "S" or "B"; `width`, `depth`, `heads` and `mlp_width` override it.
        pool: "mean" of all tokens, or the "first_token" (the first patch's, as
            BrainIAC reads MONAI's ViT: there is no extra class token).
        qkv_bias: whether the query-key-value product has a bias.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
        remat: what to recompute in the backward pass: "none", "block" (all but each
            block's input), or a name of `REMAT_POLICIES`.

    Raises:
        InputRefusedError: the patch does not divide the shape, or heads the width.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        patch: int | tuple[int, int, int] = 16,
        size: str = "B",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_width: int | None = None,
        pool: str = "mean",
        qkv_bias: bool = False,
        dtype: str = "float32",
        remat: str = "none",
        rngs: nnx.Rngs,
    ):
        sizes = SIZES[choice(size, SIZES, "size")]
        self.width = width or sizes["width"]
        self.depth = depth or sizes["depth"]
        self.heads = heads or sizes["heads"]
        # A width given alone keeps the usual ratio of four.
        mlp = mlp_width or (4 * width if width else sizes["mlp_width"])
        self.shape = triple(shape, "shape")
        self.patch = triple(patch, "patch")
        self.pool = choice(pool, ("mean", "first_token"), "pool")
        self.remat = choice(remat, ("none", "block", *REMAT_POLICIES), "remat")
        self.dtype = compute_dtype(dtype)
        count = count_patches(self.shape, self.patch)
        if self.width % self.heads:
            raise InputRefusedError(
                f"heads {self.heads} does not divide width {self.width}"
            )
        voxels = self.patch[0] * self.patch[1] * self.patch[2]
        self.embed = nnx.Linear(voxels, self.width, dtype=self.dtype, rngs=rngs)
        positions = nnx.initializers.truncated_normal(0.02)
        self.positions = nnx.Param(positions(rngs.params(), (1, count, self.width)))
        self.blocks = stack_blocks(
            self.depth,
            rngs,
            width=self.width,
            heads=self.heads,
            mlp_width=mlp,
            qkv_bias=qkv_bias,
            dtype=self.dtype,
        )
        self.norm = layer_norm(self.width, self.dtype, rngs)

    def __call__(self, volumes: Float[Array, "b x y z 1"]) -> Encoded:
        """Encodes volumes, z-scored inside the brain and 0 outside.

        Raises:
            InputRefusedError: a volume is not of the encoder's shape.
        """
        check_volumes(volumes, self.shape)
        tokens = self.embed(patchify(volumes, self.patch))
        tokens = tokens + self.positions[...].astype(self.dtype)
        tokens = self.norm(run_blocks(self.blocks, tokens, self.remat))
        wide = tokens.astype(jnp.float32)
        pooled = wide.mean(axis=1) if self.pool == "mean" else wide[:, 0]
        return Encoded(pooled, tokens)


def layer_norm(width: int, dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A LayerNorm with MONAI's epsilon and the exact two-pass variance."""
    return nnx.LayerNorm(
        width,
        epsilon=LAYER_NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        rngs=rngs,
    )


def count_patches(shape: tuple[int, int, int], patch: tuple[int, int, int]) -> int:
    """Number of patches in a volume; refuses a patch that does not divide it."""
    if any(side % p for side, p in zip(shape, patch, strict=True)):
        raise InputRefusedError(f"patch {patch} does not divide volume {shape}")
    x, y, z = (side // p for side, p in zip(shape, patch, strict=True))
    return x * y * z


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

    def step(block: Block, tokens):
        return block(tokens)

    if remat != "none":
        # "block" saves nothing but the carry, which is jax's default policy.
        policy = None if remat == "block" else getattr(jax.checkpoint_policies, remat)
        step = nnx.remat(step, policy=policy, prevent_cse=False)
    return nnx.scan(step, in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(blocks, tokens)
