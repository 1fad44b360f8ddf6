"""Networks: encoders by name, the projector, the head, and their pure form.

To add an encoder: one file, and one row in `ENCODERS`. An encoder takes
`[b, x, y, z, channels]`, gives `Encoded(pooled, tokens)`, and has `.width`, `.shape`.
Segmenters, which give logits of every voxel, have a table of their own, `SEGMENTERS`.
"""

from flax import nnx

from brainjax.models.cnn import PlainCNN, ResidualCNN
from brainjax.models.densenet import DenseNet
from brainjax.models.encoded import Encoded, choice
from brainjax.models.heads import Head, Projector
from brainjax.models.pure import Pure, count_parameters, run, to_pure
from brainjax.models.resnet import ResNet
from brainjax.models.segmenters import SEGMENTERS, Segmented, make_segmenter
from brainjax.models.segresnet import SegResEncoder
from brainjax.models.unet import WholeUNet
from brainjax.models.vit import ViT

__all__ = [
    "ENCODERS",
    "SEGMENTERS",
    "DenseNet",
    "Encoded",
    "Head",
    "PlainCNN",
    "Projector",
    "Pure",
    "ResNet",
    "ResidualCNN",
    "SegResEncoder",
    "Segmented",
    "ViT",
    "WholeUNet",
    "count_parameters",
    "make_encoder",
    "make_segmenter",
    "run",
    "to_pure",
]

ENCODERS = {
    "vit": ViT,
    "cnn": ResidualCNN,
    "plain_cnn": PlainCNN,
    "resnet": ResNet,
    "segresnet": SegResEncoder,
    "densenet": DenseNet,
}
"""Encoders by the name a config gives."""


def make_encoder(name: str = "vit", *, rngs: nnx.Rngs, **keywords):
    """Builds the encoder called `name`; keywords are its constructor's.

    Raises:
        InputRefusedError: there is no such encoder, or a keyword's value is refused.
    """
    return ENCODERS[choice(name, ENCODERS, "encoder")](rngs=rngs, **keywords)
