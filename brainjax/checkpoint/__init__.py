"""Checkpoints: the whole state of a run, verified when it is read back."""

from brainjax.checkpoint.integrity import INTEGRITY, verify
from brainjax.checkpoint.store import Checkpoints, Restored

__all__ = ["INTEGRITY", "Checkpoints", "Restored", "verify"]
