"""Networks of runs: encoder + projector, encoder + head, and an encoder alone."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from brainjax.models import Head, Projector, make_encoder
from brainjax.models.fusion import make_fusion


class Contrastive(nnx.Module):
    """An encoder under a SimCLR projector, for pretraining."""

    def __init__(self, *, encoder: dict, projector: dict, rngs: nnx.Rngs):
        self.encoder = make_encoder(**encoder, rngs=rngs)
        self.projector = Projector(self.encoder.width, **projector, rngs=rngs)

    def __call__(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b d"]:
        """Gives the projected embedding of every view."""
        return self.project(self.encode(volumes))

    def encode(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        """Gives the pooled features, without the projector."""
        return self.encoder(volumes).pooled

    def project(self, pooled: Float[Array, "b w"]) -> Float[Array, "b d"]:
        """Gives the projected embedding of pooled features."""
        return self.projector(pooled)


class Features(nnx.Module):
    """An encoder alone, as other people's checkpoints bring it."""

    def __init__(self, *, encoder: dict, rngs: nnx.Rngs):
        self.encoder = make_encoder(**encoder, rngs=rngs)

    def __call__(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        """Gives the pooled features."""
        return self.encoder(volumes).pooled

    def encode(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        """Gives the pooled features."""
        return self(volumes)


class Readout(nnx.Module):
    """What turns features into a task's outputs: a fusion of sequences, and a head.

    Args:
        width: of the features.
        outputs: width of the head.
        head: keywords of the head.
        inputs: sequences of a subject.
        fusion: row of `FUSIONS`, where there are several.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        head: dict,
        inputs: int = 1,
        fusion: str = "mean",
        rngs: nnx.Rngs,
    ):
        self.inputs = inputs
        self.fusion = (
            make_fusion(fusion, inputs, width, rngs=rngs) if inputs > 1 else None
        )
        self.head = Head(
            width if self.fusion is None else self.fusion.width,
            outputs,
            **head,
            rngs=rngs,
        )

    def fuse(
        self,
        features: Float[Array, "b *s w"],
        present: Bool[Array, "b s"] | None = None,
    ) -> Float[Array, "b f"]:
        """Gives one vector a subject.

        Features [b, w] are one vector already. present: which sequences there are; all
        if None.
        """
        if self.fusion is None or features.ndim == 2:
            return features
        if present is None:
            present = jnp.ones(features.shape[:2], bool)
        return self.fusion(features, present)

    def answer(
        self,
        features: Float[Array, "b *s w"],
        present: Bool[Array, "b s"] | None = None,
        keys: Array | None = None,
    ) -> Float[Array, "b k"]:
        """Gives the head's outputs for features [b, w], or [b, s, w] of sequences."""
        return self.head(self.fuse(features, present), keys)


class Predictor(Readout):
    """An encoder under a head, for one task.

    Args:
        encoder: keywords of the encoder.
        head: keywords of the head.
        outputs: width of the head.
        frozen: whether the encoder stays as it is.
        inputs: sequences of a subject, which all go through the one encoder.
        fusion: row of `FUSIONS`, how their features become one vector.
    """

    def __init__(
        self,
        *,
        encoder: dict,
        head: dict,
        outputs: int,
        frozen: bool,
        inputs: int = 1,
        fusion: str = "mean",
        rngs: nnx.Rngs,
    ):
        made = make_encoder(**encoder, rngs=rngs)
        super().__init__(
            made.width, outputs, head=head, inputs=inputs, fusion=fusion, rngs=rngs
        )
        self.encoder = made
        self.frozen = frozen

    def __call__(
        self, volumes: Float[Array, "b x y z 1"], keys: Array | None = None
    ) -> Float[Array, "b k"]:
        """Gives the head's outputs; one key a scan switches dropout on."""
        if self.frozen:
            self.encoder.eval()  # running statistics are frozen too
        features = self.encode(volumes)
        if self.frozen:
            # Nothing below needs a gradient, so none is computed.
            features = jax.lax.stop_gradient(features)
        return self.answer(features, keys=keys)

    def encode(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        """Gives the pooled features, without the head."""
        return self.encoder(volumes).pooled
