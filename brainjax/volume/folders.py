"""The files under a folder: no hidden ones, none twice, BIDS as it is meant."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

OTHER_FOLDERS = ("derivatives", "sourcedata")
"""Folders of a BIDS data set that hold the same scans again."""

OTHER_DATATYPES = (
    *("beh", "dwi", "eeg", "emg", "fmap", "func", "ieeg", "meg", "micr", "motion"),
    *("mrs", "nirs", "perf", "pet"),
)
"""Folders of a BIDS subject or session that hold no anatomical scan."""


def walk(folder: str | Path, left_out: Counter | None = None) -> Iterator[Path]:
    """Gives the files under a folder, sorted within each folder of it.

    Links are followed, once. Hidden names are left out, and so are, below `folder`,
    OTHER_FOLDERS and, directly in a `sub-` or `ses-` folder, OTHER_DATATYPES; their
    names are counted in `left_out`.
    """
    left_out = Counter() if left_out is None else left_out
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back up, or a second way to the same scans
            folders.clear()
            continue
        seen.add(real)
        visible = [name for name in folders if not name.startswith(".")]
        of_subject = os.path.basename(real).startswith(("sub-", "ses-"))
        skipped = (*OTHER_FOLDERS, *(OTHER_DATATYPES if of_subject else ()))
        left_out.update(name for name in visible if name in skipped)
        folders[:] = sorted(name for name in visible if name not in skipped)
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place) / name
