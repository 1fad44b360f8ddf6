"""The network of a segmentation run: a segmenter, its encoder frozen where asked."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from brainjax.errors import InputRefusedError
from brainjax.models.segmenters import Segmented, make_segmenter

ENCODER = "segmenter/encoder"
"""Path of a pretrained encoder's parameters."""


class Segmenter(nnx.Module):
    """A row of `SEGMENTERS`, for one task.

    Args:
        segmenter: keywords of `make_segmenter`.
        outputs: logits of a voxel.
        frozen: whether the encoder stays as it is: no gradient reaches it, and its
            running statistics are used, not moved.
        sequences: names of the channels, in order; none where a scan is a sample.
    """

    def __init__(
        self,
        *,
        segmenter: dict[str, Any],
        outputs: int,
        frozen: bool = False,
        sequences: Sequence[str] = (),
        rngs: nnx.Rngs,
    ):
        channels = max(len(sequences), 1)
        words = {**segmenter, "channels": channels, "outputs": outputs}
        self.segmenter = make_segmenter(**words, rngs=rngs)
        self.frozen, self.sequences = frozen, tuple(sequences)
        if frozen and getattr(self.segmenter, "encoder", None) is None:
            raise InputRefusedError(
                f"config.mode: wanted whole for segmenter "
                f"{segmenter.get('name', 'unet')}, which has no encoder, got frozen"
            )

    def __call__(self, volumes: Float[Array, "b x y z s"]) -> Segmented:
        """Gives logits, and coarser ones where it has deep supervision."""
        self._hold_still()
        return self.segmenter(volumes)

    def encode(self, volumes: Float[Array, "b x y z s"]) -> Float[Array, "b d"]:
        """Gives pooled features."""
        self._hold_still()
        return self.segmenter.encode(volumes)

    def _hold_still(self) -> None:
        if not self.frozen:
            return
        encoder = self.segmenter.encoder
        encoder.eval()  # running statistics are frozen too
        # Constants below, so that no gradient is even computed there.
        nnx.update(encoder, jax.lax.stop_gradient(nnx.state(encoder)))
