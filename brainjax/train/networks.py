"""Networks of runs: encoder + projector, encoder + head, and an encoder alone."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from brainjax.models import Head, Projector, make_encoder


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


class Predictor(nnx.Module):
    """An encoder under a linear head, for one task.

    Args:
        encoder: keywords of the encoder.
        head: keywords of the head.
        outputs: width of the head.
        frozen: whether the encoder stays as it is.
        inputs: scans of a subject, whose features are averaged before the head.
    """

    def __init__(
        self,
        *,
        encoder: dict,
        head: dict,
        outputs: int,
        frozen: bool,
        inputs: int = 1,
        rngs: nnx.Rngs,
    ):
        self.inputs = inputs
        self.encoder = make_encoder(**encoder, rngs=rngs)
        self.head = Head(self.encoder.width, outputs, **head, rngs=rngs)
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
        return self.head(features, keys)

    def encode(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        """Gives the pooled features, without the head."""
        return self.encoder(volumes).pooled

    def answer(self, features: Float[Array, "b w"]) -> Float[Array, "b k"]:
        """Gives the head's outputs for features, averaged over scans or not."""
        return self.head(features)
