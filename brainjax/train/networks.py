"""Networks of runs: encoder + projector, encoder + head, and an encoder alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from brainjax.errors import InputRefusedError
from brainjax.models import Head, Projector, make_encoder
from brainjax.models.adapters import Adapters
from brainjax.models.encoded import choice
from brainjax.models.fusion import make_fusion
from brainjax.models.pooling import AttentivePool

POOLS = ("encoder", "attention")
"""Ways from tokens to features that a head may ask for."""


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
        head: keywords of the head; and "pool", "encoder" for the encoder's own pooled
            features or "attention" for `AttentivePool` of its tokens, with "queries".
        outputs: width of the head.
        frozen: whether the encoder stays as it is.
        inputs: sequences of a subject, which all go through the one encoder.
        sequences: their names, in order; none where nobody said.
        fusion: row of `FUSIONS`, how their features become one vector.
        adapters: keywords of `Adapters`; the encoder itself then stays as it is. None
            or empty for none.
    """

    def __init__(
        self,
        *,
        encoder: dict,
        head: dict,
        outputs: int,
        frozen: bool,
        inputs: int = 1,
        sequences: Sequence[str] = (),
        fusion: str = "mean",
        adapters: dict | None = None,
        rngs: nnx.Rngs,
    ):
        if sequences and len(sequences) != inputs:
            raise InputRefusedError(
                f"sequences: wanted {inputs}, got {', '.join(sequences)}"
            )
        made = make_encoder(**encoder, rngs=rngs)
        words = dict(head)
        kind = choice(words.pop("pool", "encoder"), POOLS, "head.pool")
        queries = words.pop("queries", 1)
        # Drawn in this order, a network without the new parts starts as it always did.
        pool = None
        if kind == "attention":
            pool = AttentivePool(made.width, queries=queries, rngs=rngs)
        super().__init__(
            made.width if pool is None else pool.width,
            outputs,
            head=words,
            inputs=inputs,
            fusion=fusion,
            rngs=rngs,
        )
        self.encoder, self.pool, self.frozen = made, pool, frozen
        self.sequences = tuple(sequences)
        self.adapters = Adapters(made, **adapters, rngs=rngs) if adapters else None

    def __call__(
        self, volumes: Float[Array, "b *s x y z 1"], keys: Array | None = None
    ) -> Float[Array, "b k"]:
        """Gives the head's outputs; one key a scan or case switches dropout on.

        Of several inputs volumes are [b, s, x, y, z, 1], and a sequence whose volume
        is all 0 is missing.
        """
        present = None if volumes.ndim == 5 else are_present(volumes)
        return self.answer(self.encode(volumes), present, keys)

    def encode(self, volumes: Float[Array, "b *s x y z 1"]) -> Float[Array, "b *s w"]:
        """Gives the pooled features, of every sequence its own, without the head."""
        if volumes.ndim == 5:
            return self._pooled(volumes)
        # A missing one is seen by no norm and no statistic: another takes its place.
        filled = fill_missing(volumes, are_present(volumes))
        features = self._pooled(filled.reshape(-1, *volumes.shape[2:]))
        return features.reshape(*volumes.shape[:2], -1)

    def _pooled(self, volumes: Float[Array, "b x y z 1"]) -> Float[Array, "b w"]:
        encoder = self.encoder
        if self.frozen or self.adapters is not None:
            encoder.eval()  # running statistics are frozen too
        if self.adapters is not None:
            encoder = self.adapters.adapt(encoder)
        encoded = encoder(volumes)
        if self.frozen:
            # Nothing below needs a gradient, so none is computed.
            encoded = jax.lax.stop_gradient(encoded)
        return encoded.pooled if self.pool is None else self.pool(encoded.tokens)


def are_present(volumes: Float[Array, "b s x y z 1"]) -> Bool[Array, "b s"]:
    """Gives which sequences there are: a missing one's volume is all 0."""
    return (volumes != 0).any(axis=(2, 3, 4, 5))


def fill_missing(
    volumes: Float[Array, "b s x y z 1"], present: Bool[Array, "b s"]
) -> Float[Array, "b s x y z 1"]:
    """Puts a case's first sequence that is there in place of those that are not."""
    first = jnp.argmax(present, axis=1)
    spare = jnp.take_along_axis(volumes, first[:, None, None, None, None, None], 1)
    return jnp.where(present[:, :, None, None, None, None], volumes, spare)
