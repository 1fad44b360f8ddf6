"""The layouts of other packages: one file a family, one row in `LAYOUTS`."""

from brainjax.interop.layouts import densenet, nidl, resnet, segresnet, unetr, vit

LAYOUTS = {
    "vit": vit.LAYOUT,
    "nidl": nidl.LAYOUT,
    "resnet": resnet.LAYOUT,
    "segresnet": segresnet.LAYOUT,
    "densenet": densenet.LAYOUT,
    "unetr": unetr.LAYOUT,
}
"""Layouts by name; `Layout.encoder` is the row of `models.ENCODERS`."""
