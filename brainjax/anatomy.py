"""Names of axes, sequences and units, in one place.

A volume is `[x, y, z]` in RAS+: x grows to the subject's right, y to the front, z to
the top. Axes are named by anatomy, never by number.
"""

import re

AXES = {"left_right": 0, "posterior_anterior": 1, "inferior_superior": 2}
"""Array axis of a RAS+ volume, by its anatomical name."""

SEQUENCES = ("T1w", "T2w", "FLAIR", "T1CE")
"""The MR sequences brainjax names; anything else is kept as it was written."""

_SEQUENCE_ALIASES = {
    "t1": "T1w",
    "t1w": "T1w",
    "t1n": "T1w",
    "mprage": "T1w",
    "t2": "T2w",
    "t2w": "T2w",
    "flair": "FLAIR",
    "t2f": "FLAIR",
    "t1ce": "T1CE",
    "t1c": "T1CE",
    "t1gd": "T1CE",
    "t1post": "T1CE",
    "t1postcontrast": "T1CE",
}

SIDES = ("left", "right")

UNITS = {
    "age": "years",
    "days": "days",
    "time": "days",
    "survival_days": "days",
    "stroke_days": "days",
}
"""Unit of a target column, by its name; a config may state another."""

_LIFETIME = 43_830.0  # 120 years in days

RANGES = {"age": (0.0, 120.0)} | {
    name: (0.0, _LIFETIME) for name, unit in UNITS.items() if unit == "days"
}
"""Smallest and largest value of a target column in its unit, by its name."""


def sequence_name(word: str) -> str | None:
    """Gives the sequence a word of a file name stands for, or None.

    >>> sequence_name("T1POST")
    'T1CE'
    """
    return _SEQUENCE_ALIASES.get(word.lower())


def split_side(name: str) -> tuple[str, str]:
    """Gives the side that a structure's name states, "" for none, and its other words.

    >>> split_side("Left-Hippocampus")
    ('left', 'hippocampus')
    >>> split_side("white_matter_right")
    ('right', 'white_matter')
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    sides = [word for word in words if word in SIDES]
    if len(sides) != 1:
        return "", "_".join(words)
    return sides[0], "_".join(word for word in words if word not in SIDES)
