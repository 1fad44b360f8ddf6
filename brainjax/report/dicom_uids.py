"""Identifiers and dates of new objects: functions of what goes into them.

The same labels of the same series give the same bytes, so that a rerun sends a hospital
no second copy. An object with anything else in it has another identifier.
"""

import hashlib
import uuid
from datetime import datetime
from typing import Any

import numpy as np

from brainjax.volume.dicom_elements import text_of

_NAMESPACE = uuid.UUID("f2d0c1ab-52c2-5f5b-8c1d-7a4e0f1c9b36")

_DATES = ("Acquisition", "Series", "Content", "Study")


def digest_of(*parts: Any) -> str:
    """Gives a hash of arrays, bytes and whatever prints."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def uid_of(digest: str, *, what: str, fresh: bool = False) -> str:
    """Gives an identifier below 2.25, the root of UUIDs (PS3.5, B.2).

    Args:
        digest: of what the object is made of.
        what: tells the identifiers of one object apart.
        fresh: of chance instead: another one each time.
    """
    number = uuid.uuid4() if fresh else uuid.uuid5(_NAMESPACE, f"{digest} {what}")
    return f"2.25.{number.int}"


def when_of(header: Any) -> tuple[str, str]:
    """Gives date and time of a series as DICOM writes them; "" where it has none."""
    for name in _DATES:
        date = text_of(header, f"{name}Date")
        if len(date) == 8 and date.isdigit():
            time = text_of(header, f"{name}Time")
            return date, time if time[:6].isdigit() else "000000"
    return "", ""


def set_when(made: Any, header: Any, when: datetime | None) -> None:
    """Puts the same date and time wherever an object has its own.

    Those of the series, which do not change from run to run, unless the caller states
    others; of a series without a date, those of now. When the file was made is said
    only where it is stated.
    """
    date, time = when_of(header)
    if when is not None or not date:
        stated = when or datetime.now()
        date, time = stated.strftime("%Y%m%d"), stated.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(made, f"{name}Date", date)
        setattr(made, f"{name}Time", time)
    if when is None:
        del made.InstanceCreationDate, made.InstanceCreationTime
    for item in made.get("ContributingEquipmentSequence") or ():
        if item.get("ManufacturerModelName") == "highdicom":
            item.pop("ContributionDateTime", None)
