"""What a recipe makes, and what every recipe says of itself."""

import hashlib
import json
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

Codes = UInt8[np.ndarray, "x y z"] | Float32[np.ndarray, "x y z"]

"""A stored volume: uint8 codes of our recipes, float32 values of exact ones."""

Stored = UInt8[np.ndarray, "*s x y z"] | Float32[np.ndarray, "*s x y z"]
"""Codes of a scan, or of the sequences of a case together."""


class Canonical(NamedTuple):
    """A volume as a recipe gives it, its affine, and the provenance.

    codes: uint8 codes in RAS+; of an exact recipe, the float32 values that its network
    takes, their axes in the order of the file. The provenance holds that of the scan
    (see `Scan`) and recipe (hash), all JSON values; of uint8 codes also mask (its
    kind), mask_ml, clip_low, clip_high (in the scan's unit); of float32 values also
    axes ("stored"), intensity_offset, intensity_scale: value = (scan - offset) / scale.
    """

    codes: Codes
    affine: Float64[np.ndarray, "4 4"]
    provenance: dict


class Hashed:
    """What every recipe can, a frozen dataclass of JSON values and tuples of them."""

    @property
    def hash(self) -> str:
        """12 hex characters that change with anything that changes a volume."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict:
        """Gives JSON values; `recipe_from_dict` is the inverse."""
        return json.loads(json.dumps(vars(self)))
