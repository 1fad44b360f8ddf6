"""What is kept beside a record: facts, the brain's mask, pictures; a folder each."""

import errno
import gzip
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.records.sources import Source
from brainjax.volume.aligned import settled
from brainjax.volume.planes import Planes, load_planes, save_planes
from brainjax.volume.recipe import Kept, Reference
from brainjax.volume.scan import read_scan

FOLDER = "kept"
FACTS, MASK, PLANES = "facts.json", "mask.nii.gz", "planes.npz"


def kept_path(out: Path, key: str) -> Path:
    """Gives the folder of what is kept of a record."""
    return out / FOLDER / key


def write_kept(out: Path, key: str, kept: Kept, affine: np.ndarray) -> None:
    """Writes what a recipe keeps of a scan; the folder is whole or absent.

    `affine`: of the canonical volume.
    """
    folder = kept_path(out, key)
    half = folder.with_name(f"{key}.{secrets.token_hex(6)}.half")
    half.mkdir(parents=True)
    try:
        _write_all(half, kept, affine)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(half, folder)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        # A twin of the scan, in another process, may have just written the same.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _write_all(folder: Path, kept: Kept, affine: np.ndarray) -> None:
    transforms = {"affine": affine.tolist(), "to_scan": kept.to_scan.tolist()}
    facts = {**kept.facts, **transforms}
    text = json.dumps(facts, sort_keys=True, indent=1, allow_nan=False) + "\n"
    (folder / FACTS).write_text(text)
    mask = nib.Nifti1Image(kept.brain.astype(np.uint8), kept.affine)
    # No time in the file: the same mask gives the same bytes.
    (folder / MASK).write_bytes(gzip.compress(mask.to_bytes(), 6, mtime=0))
    save_planes(folder / PLANES, kept.planes)


def is_kept(out: Path, key: str) -> bool:
    """Says whether all is there, and whole, that is kept of a record."""
    folder = kept_path(out, key)
    try:
        whole = bool(read_kept_facts(out, key)) and load_planes(folder / PLANES)
    except InputRefusedError:
        return False
    return bool(whole) and (folder / MASK).is_file()


def read_kept_facts(out: Path, key: str) -> dict[str, Any]:
    """Gives the facts kept of a record, none where nothing is.

    Raises:
      InputRefusedError: the file is damaged.
    """
    path = kept_path(out, key) / FACTS
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputRefusedError(
            f"{path}: wanted the facts of a scan, got other text; remove its folder "
            "and run prepare again"
        ) from None


def read_kept_planes(out: Path, key: str) -> Planes | None:
    """Gives the pictures kept of a record, None where there are none."""
    path = kept_path(out, key) / PLANES
    return load_planes(path) if path.is_file() else None


def read_reference(
    out: Path, key: str, source: Source, orientation: str | None
) -> Reference:
    """Gives what a prepared scan lends to the others of its session.

    Raises:
      InputRefusedError: it is not to be read any more, or nothing is kept of it.
    """
    scan = settled(read_scan(source.path, orientation=orientation))
    facts = read_kept_facts(out, key)
    path = kept_path(out, key) / MASK
    if not facts or not path.is_file():
        raise InputRefusedError(
            f"{source.path}: wanted its brain and transform in {path.parent}, got none"
        )
    mask = cast(nib.Nifti1Image, nib.load(path))
    return Reference(
        scan.voxels,
        scan.affine,
        np.asarray(mask.dataobj) > 0,
        np.array(facts["affine"]),
        np.array(facts["to_scan"]),
        source.path,
    )


def remove_others(out: Path, keys: set[str]) -> None:
    """Removes what is kept of scans that are not in the data set, and halves."""
    for folder in (out / FOLDER).glob("*"):
        if folder.name not in keys:
            shutil.rmtree(folder)
