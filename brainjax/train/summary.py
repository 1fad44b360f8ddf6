"""The summary of a finished run, and the versions it was made with."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from brainjax import __version__
from brainjax.models.pure import count_parameters
from brainjax.train.folder import RunFolder, write_json
from brainjax.train.hooks import MetricLog
from brainjax.train.state import State

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "nibabel", "numpy")


def write_summary(
    folder: RunFolder, log: MetricLog, state: State, facts: dict[str, Any]
) -> None:
    """Writes summary.json: steps, time, costs, counts, versions, and the facts given.

    Time is in seconds. Speeds and compiling are those of this call (or the last logged,
    where it took no step); time, device hours and peak memory are of the whole run.
    """
    if not log.writing:
        return
    ledger = log.ledger
    write_json(
        folder.summary,
        {
            "steps": int(state["step"]),
            "seconds": round(log.seconds, 1),
            **ledger.summary(),
            "skipped_steps": int(state["skipped"]),
            "parameters": count_parameters(state["params"]),
            "device": describe_device(),
            "versions": versions(),
            "last_metrics": log.latest,
            **facts,
        },
    )


def describe_device() -> str:
    """Gives the devices in words, such as "1 x cpu (2 cores, x86_64)"."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"cpu ({os.cpu_count()} cores, {platform.machine()})"
    return f"{jax.device_count()} x {name}"


def versions() -> dict[str, str]:
    """Gives the versions of brainjax, Python and the packages that shape a result."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return {"brainjax": __version__, "python": platform.python_version(), **found}
