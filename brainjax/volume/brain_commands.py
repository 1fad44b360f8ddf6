"""Brain masks by other people's commands, where they are installed.

The scan goes to a temporary NIfTI, the command writes a mask, the mask is checked: its
grid, and that it is one. Nothing else of the scan leaves this process.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Float64

from brainjax.errors import InputRefusedError
from brainjax.volume.nifti import read_nifti

LIMIT_S = 900.0
"""A command that has not ended by then is ended."""

LINE = 200
"""So much is shown of a command's last line."""


class Command(NamedTuple):
    """How a brain mask is asked for.

    programs: names on PATH; the first that is there is run.
    words: what follows; {scan}, {mask} and {brain} are files.
    masks: files of which the first that is there is the mask.
    module: a package that serves in the program's stead; `call` is its Python.
    get: how to come by it.
    """

    programs: tuple[str, ...]
    words: tuple[str, ...]
    masks: tuple[str, ...]
    get: str
    module: str | None = None
    call: str = ""


_LEASH = (
    (
        sys.executable,
        "-c",
        "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
        "os.execv(sys.argv[1], sys.argv[1:])",
    )
    if sys.platform == "linux"
    else ()
)
"""Starts a program that Linux kills when what started it is killed (PR_SET_PDEATHSIG).

By a step between, not in a fork of this process, whose threads a fork would break.
"""

COMMANDS = {
    "hd-bet": Command(
        programs=("hd-bet",),
        words=(
            *("-i", "{scan}", "-o", "{brain}", "-device", "cpu"),
            *("--disable_tta", "--save_bet_mask"),
        ),
        masks=("brain_bet.nii.gz",),
        get="pip install 'hd-bet>=2'",
    ),
    "deepbet": Command(
        programs=("deepbet-cli",),
        words=("-i", "{scan}", "-o", "{brain}", "-m", "{mask}", "--no_gpu"),
        masks=("mask.nii.gz",),
        get="pip install deepbet",
        module="deepbet",
        call="import sys; from deepbet import run_bet; "
        "run_bet([sys.argv[1]], [sys.argv[2]], [sys.argv[3]], no_gpu=True)",
    ),
    "synthstrip": Command(
        programs=("mri_synthstrip", "synthstrip"),
        words=("-i", "{scan}", "-m", "{mask}"),
        masks=("mask.nii.gz",),
        get="FreeSurfer 7.3 or later, https://surfer.nmr.mgh.harvard.edu",
    ),
}


def find_by_command(
    name: str,
    voxels: Float32[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    *,
    limit_s: float = LIMIT_S,
) -> Bool[np.ndarray, "x y z"]:
    """Gives the brain of a scan by a row of COMMANDS.

    Raises InputRefusedError, one line that names the back end, where it is not
    installed, fails, takes longer than `limit_s`, or writes no mask of the scan's grid.
    """
    command = COMMANDS[name]
    start = find_program(name)
    with tempfile.TemporaryDirectory(prefix="brainjax-mask-") as folder:
        place = Path(folder)
        nib.save(nib.Nifti1Image(voxels, affine), place / "scan.nii.gz")
        words = [_filled(word, place) for word in command.words]
        if start[0] == sys.executable:
            words = [str(place / f"{n}.nii.gz") for n in ("scan", "brain", "mask")]
        _run(name, [*start, *words], place, limit_s)
        return _read_mask(name, place, command.masks, voxels.shape, affine)


def find_program(name: str) -> list[str]:
    """Gives the words that start a back end; raises one line with how to get it."""
    command = COMMANDS[name]
    for program in command.programs:
        found = shutil.which(program)
        if found:
            return [found]
    if command.module and importlib.util.find_spec(command.module):
        return [sys.executable, "-c", command.call]
    wanted = " or ".join(command.programs)
    raise InputRefusedError(
        f"{name}: wanted {wanted} on PATH, got none; it comes with: {command.get}"
    )


def _filled(word: str, place: Path) -> str:
    for name in ("scan", "mask", "brain"):
        word = word.replace(f"{{{name}}}", str(place / f"{name}.nii.gz"))
    return word


def _run(name: str, words: list[str], place: Path, limit_s: float) -> None:
    """Runs a command in a session of its own, so that all it started ends with it."""
    with (place / "said").open("w+b") as said:
        process = subprocess.Popen(
            [*_LEASH, *words],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise InputRefusedError(
                f"{name}: wanted a mask, got no end within {limit_s:g} s"
                f"{_last_line(place)}"
            ) from None
        finally:
            _end(process)
    if code:
        raise InputRefusedError(
            f"{name}: wanted a mask, got exit code {code}{_last_line(place)}"
        )


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(place: Path) -> str:
    """Gives the last line of what a command said, printable, for the end of a line."""
    text = (place / "said").read_bytes()[-4096:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = (
        "".join(c if c.isprintable() else " " for c in lines[-1:][0]) if lines else ""
    )
    return f": {shown.replace(str(place), '')[:LINE]}" if shown else ""


def _read_mask(
    name: str, place: Path, files: tuple[str, ...], shape: tuple, affine: np.ndarray
) -> Bool[np.ndarray, "x y z"]:
    found = [place / file for file in files if (place / file).is_file()]
    if not found:
        raise InputRefusedError(
            f"{name}: wanted a mask, got no file{_last_line(place)}"
        )
    try:
        file = read_nifti(found[0])
    except InputRefusedError as error:
        reason = str(error).replace(str(place), "").lstrip("/")
        raise InputRefusedError(f"{name}: wanted a mask, got {reason}") from None
    stored = np.asarray(file.stored)
    if stored.ndim == 4 and stored.shape[3] == 1:
        stored = stored[..., 0]
    if stored.shape != tuple(shape):
        raise InputRefusedError(
            f"{name}: wanted a mask of {tuple(shape)} voxels, got {stored.shape}"
        )
    there = np.asarray(file.header.get_best_affine(), np.float64)
    if not np.allclose(there, affine, atol=1e-2):
        raise InputRefusedError(
            f"{name}: wanted a mask on the scan's grid, got another affine "
            f"{np.round(there[:3], 2).tolist()}"
        )
    return stored * file.slope + file.intercept > 0.5
