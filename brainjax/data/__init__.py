"""Shards to batches, in an order that is a pure function of (seed, step)."""

from brainjax.data.loader import Batch, Loader, batches
from brainjax.data.order import replacement, sample_indices
from brainjax.data.resident import Resident, load_resident

__all__ = [
    "Batch",
    "Loader",
    "Resident",
    "batches",
    "load_resident",
    "replacement",
    "sample_indices",
]
