"""The 3D vision transformer (Dosovitskiy et al. 2021), on volumes.

Its arithmetic is that of MONAI's `ViT` (see `transformer.py`), so such weights can be
carried over. The patch embedding is one matrix product over patchified voxels.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import (
    Encoded,
    at_least,
    check_volumes,
    choice,
    compute_dtype,
    triple,
)
from brainjax.models.platforms import ATTENTIONS
from brainjax.models.positions import patch_grid, sincos_positions
from brainjax.models.products import Linear
from brainjax.models.transformer import (
    REMAT_POLICIES,
    collect_blocks,
    layer_norm,
    run_blocks,
    stack_blocks,
)

SIZES = {
    "Ti": {"width": 192, "depth": 12, "heads": 3, "mlp_width": 768},
    "S": {"width": 384, "depth": 12, "heads": 6, "mlp_width": 1536},
    "B": {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072},
    "L": {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096},
}
"""Width, depth, heads and MLP width by the field's names of the sizes."""


def patchify(
    volumes: Float[Array, "b x y z c"], patch: tuple[int, int, int]
) -> Float[Array, "b n p"]:
    """Cuts volumes into flat patches; patches and voxels have z fastest.

    The channels of a voxel lie side by side: `(p q r c)`.
    """
    counts = [side // p for side, p in zip(volumes.shape[1:4], patch, strict=True)]
    (i, j, k), (p, q, r), c = counts, patch, volumes.shape[-1]
    cells = volumes.reshape(-1, i, p, j, q, k, r, c)
    cells = cells.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return cells.reshape(-1, i * j * k, p * q * r * c)


class ViT(nnx.Module):
    """A 3D vision transformer; `ViT(...)(volumes)` gives `Encoded`.

    The stream of tokens is class token, registers (Darcet et al. 2024), patches;
    `Encoded.tokens` are the patches' alone.

    Args:
        shape: voxels of a volume along x, y, z.
        patch: voxels of a patch, one number or three; it must divide `shape`.
        channels: channels of a volume.
        size: "Ti", "S", "B" or "L"; `width`, `depth`, `heads` and `mlp_width`
            override it.
        pool: "mean" of the patches' tokens, the "first_token" (the first patch's, as
            BrainIAC reads MONAI's ViT), or the "class_token".
        positions: "learned", or "sincos", which has no parameters.
        class_token: whether a learned token goes before the others.
        registers: number of learned tokens between the class token and the patches.
        prefix_positions: whether class token and registers have learned positions
            too, as in timm and nidl; MONAI has them for patches alone.
        projection: "conv" or "perceptron", what MONAI calls the patch product: the
            names and order in its files; the numbers are the same.
        qkv_bias: whether the query-key-value product has a bias.
        dtype: compute type, "float32" or "bfloat16"; parameters are float32.
        remat: what to recompute in the backward pass: "none", "block" (all but each
            block's input), or a name of `REMAT_POLICIES`.
        attention: "xla", "cudnn" (fused; NVIDIA, bfloat16), or "auto", the one that is
            better where the network is traced: see `platforms.attention_form`.

    Raises:
        InputRefusedError: the patch does not divide the shape, heads not the width, or
            two settings do not go together.
    """

    def __init__(
        self,
        *,
        shape: int | tuple[int, int, int] = (96, 96, 96),
        patch: int | tuple[int, int, int] = 16,
        channels: int = 1,
        size: str = "B",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        mlp_width: int | None = None,
        pool: str = "mean",
        positions: str = "learned",
        class_token: bool = False,
        registers: int = 0,
        prefix_positions: bool = False,
        projection: str = "conv",
        qkv_bias: bool = False,
        dtype: str = "float32",
        remat: str = "none",
        attention: str = "auto",
        rngs: nnx.Rngs,
    ):
        sizes = SIZES[choice(size, SIZES, "size")]
        self.width = width or sizes["width"]
        self.depth = depth or sizes["depth"]
        self.heads = heads or sizes["heads"]
        # A width given alone keeps the usual ratio of four.
        self.mlp_width = mlp_width or (4 * width if width else sizes["mlp_width"])
        self.shape = triple(shape, "shape")
        self.patch = triple(patch, "patch")
        self.grid = patch_grid(self.shape, self.patch)
        self.channels = at_least(1, channels, "channels")
        self.pool = choice(pool, ("mean", "first_token", "class_token"), "pool")
        self.position_kind = choice(positions, ("learned", "sincos"), "positions")
        self.prefix = int(class_token) + at_least(0, registers, "registers")
        made = {"class_token": class_token, "registers": registers}
        self.prefix_names = tuple(name for name, used in made.items() if used)
        self.prefix_positions = prefix_positions
        self.projection = choice(projection, ("conv", "perceptron"), "projection")
        self.qkv_bias = qkv_bias
        self.remat = choice(remat, ("none", "block", *REMAT_POLICIES), "remat")
        self.dtype = compute_dtype(dtype)
        self.attention = choice(attention, ATTENTIONS, "attention")
        self._refuse_what_does_not_fit(class_token)
        self._make_parameters(class_token, registers, rngs)

    def __call__(self, volumes: Float[Array, "b x y z c"]) -> Encoded:
        """Encodes volumes, z-scored inside the brain and 0 outside.

        Raises:
            InputRefusedError: a volume is not of the encoder's shape.
        """
        tokens = run_blocks(self.blocks, self._embed(volumes), self.remat)
        return self.finish(tokens)

    def hidden(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "depth b n d"]:
        """The stream after every block: before the final norm, prefix included."""
        return collect_blocks(self.blocks, self._embed(volumes), self.remat)

    def finish(self, stream: Float[Array, "b n d"]) -> Encoded:
        """The final norm and the pooling of what the last block gave."""
        stream = self.norm(stream)
        wide = stream.astype(jnp.float32)
        if self.pool == "class_token":
            pooled = wide[:, 0]
        elif self.pool == "first_token":
            pooled = wide[:, self.prefix]
        else:
            pooled = wide[:, self.prefix :].mean(axis=1)
        return Encoded(pooled, stream[:, self.prefix :])

    def _embed(self, volumes: Float[Array, "b x y z c"]) -> Float[Array, "b n d"]:
        check_volumes(volumes, self.shape, self.channels)
        tokens = self.embed(patchify(volumes, self.patch))
        if self.position_kind == "sincos":
            table = jnp.asarray(sincos_positions(self.grid, self.width))
        else:
            table = self.positions[...]
        table = table.astype(self.dtype)
        if not self.prefix:
            return tokens + table
        if self.prefix_positions:
            return self._with_prefix(tokens) + table
        return self._with_prefix(tokens + table)

    def _with_prefix(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b m d"]:
        learned = [getattr(self, name)[...] for name in self.prefix_names]
        prefix = jnp.concatenate(learned, axis=1).astype(self.dtype)
        prefix = jnp.broadcast_to(prefix, (tokens.shape[0], *prefix.shape[1:]))
        return jnp.concatenate([prefix, tokens], axis=1)

    def _refuse_what_does_not_fit(self, class_token: bool) -> None:
        if self.width % self.heads:
            raise InputRefusedError(
                f"heads {self.heads} does not divide width {self.width}"
            )
        if self.pool == "class_token" and not class_token:
            raise InputRefusedError(
                "pool: class_token wants class_token=True, got class_token=False"
            )
        if self.position_kind == "sincos":
            sincos_positions((1, 1, 1), self.width)
            if self.prefix_positions:
                raise InputRefusedError(
                    "prefix_positions: wanted learned positions, got sincos"
                )

    def _make_parameters(
        self, class_token: bool, registers: int, rngs: nnx.Rngs
    ) -> None:
        p, q, r = self.patch
        self.embed = Linear(
            p * q * r * self.channels, self.width, dtype=self.dtype, rngs=rngs
        )
        start = nnx.initializers.truncated_normal(0.02)
        count = self.grid[0] * self.grid[1] * self.grid[2]
        if self.position_kind == "learned":
            count += self.prefix if self.prefix_positions else 0
            self.positions = nnx.Param(start(rngs.params(), (1, count, self.width)))
        self.blocks = stack_blocks(
            self.depth,
            rngs,
            width=self.width,
            heads=self.heads,
            mlp_width=self.mlp_width,
            qkv_bias=self.qkv_bias,
            dtype=self.dtype,
            attention=self.attention,
        )
        self.norm = layer_norm(self.width, self.dtype, rngs)
        # Drawn last, so that an encoder without them starts as it did before.
        if class_token:
            self.class_token = nnx.Param(start(rngs.params(), (1, 1, self.width)))
        if registers:
            shape = (1, registers, self.width)
            self.registers = nnx.Param(start(rngs.params(), shape))
