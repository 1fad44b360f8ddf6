"""What this machine has: versions, devices, and what is optional and missing."""

from importlib import metadata, util

import jax
from rich.console import Console
from rich.table import Table

from brainjax.train.summary import describe_device, versions

OPTIONAL = {
    "nilearn": ("phantom", "generate phantom cohorts"),
    "matplotlib": ("report", "figures of the report"),
    "jinja2": ("report", "the report's page"),
    "pyarrow": ("parquet", "tables as .parquet"),
    "huggingface_hub": ("hf", "checkpoints from hf:// addresses"),
    "lifelines": ("survival", "survival curves and hazard ratios"),
    "SimpleITK": ("scanner", "bias correction and registration of raw heads"),
    "pydicom": ("scanner", "DICOM series"),
    "distributed": ("dask", "preparation on several machines"),
    "flatbuffers": ("export", "export of StableHLO"),
}
"""Packages beyond the base install: their extra, and what they are for."""


def show_machine() -> bool:
    """Prints the machine; gives False where no device computes a right answer."""
    console = Console()
    table = Table(title="brainjax doctor")
    table.add_column("what")
    table.add_column("found")
    for name, version in versions().items():
        table.add_row(name, version)
    table.add_row("devices", describe_device())
    table.add_row("backend", jax.default_backend())
    for package, (extra, purpose) in OPTIONAL.items():
        found = metadata.version(package) if util.find_spec(package) else None
        hint = f"missing: {purpose}; pip install 'brainjax[{extra}]'"
        table.add_row(package, found or hint)
    works = _computes()
    table.add_row("a small product on the device", "right" if works else "WRONG")
    console.print(table)
    return works


def _computes() -> bool:
    numbers = jax.numpy.arange(64.0).reshape(8, 8)
    return float((numbers @ numbers.T).trace()) == float((numbers**2).sum())
