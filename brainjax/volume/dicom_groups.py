"""Which planes of one series are one volume, told by their headers."""

import hashlib
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from brainjax.volume.dicom_header import Header, Image

_SAME_DIRECTION = 1e-3
_SAME_PLACE_MM = 0.01


class Group(NamedTuple):
    """Planes of one volume in order, the header of the first, and what names it."""

    header: Header
    images: tuple[Image, ...]
    identity: str
    fault: str | None


def split_series(headers: list[Header]) -> list[Group]:
    """Splits one series into what can be one volume each."""
    faults = sorted(
        (header.file, header.fault) for header in headers if header.fault is not None
    )
    fault = "{}: {}".format(*faults[0]) if faults else None
    at = {header.file: header for header in headers}
    images = [image for header in headers for image in header.images]
    parts = defaultdict(list)
    names = _directions(images)
    for image in images:
        direction = names[image.orientation]
        parts[repr((image.grid, direction, image.kind))].append(image)
    groups = []
    for _, members in sorted(parts.items()):
        for volume in _repeats(members):
            ordered = tuple(sorted(volume, key=_place))
            identity = _identity(headers[0].series, *_marks(volume))
            header = at[ordered[0].plane.file]
            groups.append(Group(header, ordered, identity, fault))
    if not groups:
        header = min(headers, key=lambda h: h.file)
        groups = [Group(header, (), _identity(header.series), fault)]
    return groups


def _marks(images: list[Image]) -> tuple[str, ...]:
    """Gives what tells a volume from others of its series, of its own planes alone.

    So it is the same whichever folder above the files is searched.
    """
    direction = min(image.orientation for image in images)
    repeats = sorted({image.repeats for image in images})
    return repr((images[0].grid, images[0].kind, direction)), repr(repeats)


def _identity(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _directions(images: list[Image]) -> dict[tuple, tuple]:
    """Gives the same name to directions that differ by rounding only."""
    names: dict[tuple, tuple] = {}
    for direction in sorted({image.orientation for image in images}):
        near = (
            name
            for name in names.values()
            if np.abs(np.subtract(name, direction)).max() < _SAME_DIRECTION
        )
        names[direction] = next(near, direction)
    return {direction: tuple(np.round(name, 3)) for direction, name in names.items()}


def _place(image: Image) -> tuple:
    """Orders planes along their normal, and repeated ones by what they are."""
    return (height(image.orientation, image.plane.position), image.repeats)


def height(orientation: tuple, position: tuple) -> float:
    """Gives how far a plane lies along the normal of its rows and columns, in mm."""
    normal = np.cross(orientation[:3], orientation[3:])
    return round(float(normal @ np.asarray(position)), 4)


def _repeats(images: list[Image]) -> list[list[Image]]:
    """Splits planes that lie in one place by the first thing that separates them.

    Where nothing does they stay together: copies, or a fault that reading finds.
    """
    if not _collide(images):
        return [images]
    places = len({_place(image)[0] for image in images})
    for which in range(len(images[0].repeats)):
        parts = defaultdict(list)
        for image in images:
            parts[image.repeats[which]].append(image)
        alike = min(map(len, parts.values())) >= 0.5 * places
        if len(parts) > 1 and alike and not any(map(_collide, parts.values())):
            return [part for _, part in sorted(parts.items())]
    return [images]


def _collide(images: list[Image]) -> bool:
    heights = np.sort([_place(image)[0] for image in images])
    return bool((np.diff(heights) < _SAME_PLACE_MM).any())
