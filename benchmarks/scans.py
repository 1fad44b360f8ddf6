"""A prepared data set without scans: volumes that look like heads to a compressor."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from common import head_like

from brainjax.records.encoding import encode_record
from brainjax.records.store import RecordDataset, Shards, write_shards
from brainjax.volume.recipe import make_recipe

DIFFERENT = 16
"""Volumes that are generated; the others are those, shifted."""


def generate(folder: Path, count: int, size: int) -> RecordDataset:
    """Writes records of size cubed uint8 codes, each scan a subject of its own."""
    heads = [head_like(size, seed) for seed in range(min(DIFFERENT, count))]
    recipe = make_recipe(spacing=192 / size)
    keys = [f"{number:064x}" for number in range(count)]

    def payload(number: int) -> bytes:
        shifted = np.roll(heads[number % len(heads)], number // len(heads), axis=1)
        return encode_record(shifted, {"key": keys[number]})

    write_shards(folder, [partial(payload, number) for number in range(count)])
    rows = [
        {
            "key": key,
            "subject": f"sub-{number}",
            "source": f"generated {number}",
            "labels": {},
            "sequence": None,
            "session": None,
        }
        for number, key in enumerate(keys)
    ]
    return RecordDataset(folder, recipe, rows, Shards(folder, count))


@contextmanager
def generated(count: int, size: int) -> Iterator[RecordDataset]:
    """Gives such a data set in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield generate(Path(folder), count, size)
