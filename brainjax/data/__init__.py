"""Shards to batches, in an order that is a pure function of (seed, step)."""

from brainjax.data.draws import Drawn, Draws
from brainjax.data.loader import Batch, Loader, batches
from brainjax.data.on_device import (
    OnDevice,
    load_on_devices,
    take_local_rows,
    take_rows,
)
from brainjax.data.order import replacement, sample_indices
from brainjax.data.resident import Resident, load_resident

__all__ = [
    "Batch",
    "Drawn",
    "Draws",
    "Loader",
    "OnDevice",
    "Resident",
    "batches",
    "load_on_devices",
    "load_resident",
    "replacement",
    "sample_indices",
    "take_local_rows",
    "take_rows",
]
