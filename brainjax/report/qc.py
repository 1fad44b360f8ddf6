"""The quality page of a preparation: pictures, a table to sort, and distributions."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainjax import __version__
from brainjax.errors import InputRefusedError
from brainjax.records.flags import MEASURES, show_short
from brainjax.records.kept import read_kept_planes
from brainjax.records.qc_table import read_qc_table
from brainjax.records.writing import write_atomically
from brainjax.report.html import read_template
from brainjax.report.png import data_uri, grey_png, outline_png
from brainjax.volume.planes import PLANES, Planes

MOST_PICTURES = 400
"""Scans that a page has pictures of, the flagged first: each adds some 40 kB."""

OUTLINE = (255, 196, 0)

STRIP_WIDTH = 300
STRIP_HEIGHT = 30

LABELS = ("subject", "session", "sequence")

Row = Mapping[str, Any]


def write_qc_page(
    out: str | Path,
    rows: Sequence[Row],
    planes: Callable[[str], Planes | None],
    *,
    title: str = "Quality of the scans",
) -> Path:
    """Writes the quality page, one file that asks for nothing else.

    Args:
      out: .html to write; it is replaced whole.
      rows: a dict a scan, as `write_qc_table` takes them.
      planes: gives the pictures of a key, None where there are none.
      title: of the page.

    Raises:
      InputRefusedError: the file cannot be written.
      MissingExtraError: jinja2 is not installed.
    """
    template = read_template("qc.html.jinja")
    page = template.render(title=title, **_content(rows, planes))
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Names of files may hold bytes that are no text.
        write_atomically(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputRefusedError(
            f"{out}: wanted a file to write, got {error.strerror}"
        ) from None
    return out


def write_page_of(prepared: str | Path) -> Path:
    """Writes qc.html of a prepared folder, from its qc.tsv and what is kept there.

    Raises:
      InputRefusedError: there is no qc.tsv, or it is no such table.
      MissingExtraError: jinja2 is not installed.
    """
    out = Path(prepared)
    rows = read_qc_table(out / "qc.tsv")
    return write_qc_page(out / "qc.html", rows, lambda key: read_kept_planes(out, key))


def _content(
    rows: Sequence[Row], planes: Callable[[str], Planes | None]
) -> dict[str, Any]:
    """Everything the template shows; scans with most flags first."""
    order = sorted(range(len(rows)), key=lambda i: (-len(_words(rows[i], "flags")), i))
    rows = [rows[position] for position in order]
    files = _files(rows)
    shown = [
        name for name in MEASURES if any(row.get(name) is not None for row in rows)
    ]
    labels = ["subject"]
    labels += [name for name in LABELS[1:] if any(row.get(name) for row in rows)]
    scans = [
        _scan(
            number, row, labels, shown, planes if number < MOST_PICTURES else _no_planes
        )
        | {"file": file}
        for number, (row, file) in enumerate(zip(rows, files, strict=True))
    ]
    return {
        "version": __version__,
        "summary": summary(rows),
        "reasons": _reasons(rows),
        "labels": ["scan", *labels[1:]],
        "doubted": any(_words(row, "doubts") for row in rows),
        "columns": [(name, MEASURES[name]) for name in shown],
        "scans": scans,
        "pictured": sum(bool(scan["pictures"]) for scan in scans),
        "strips": [_strip(name, rows) for name in shown],
        "strip_size": (STRIP_WIDTH, STRIP_HEIGHT),
    }


def summary(rows: Sequence[Row]) -> str:
    """One sentence: how many scans are flagged."""
    flagged = sum(bool(_words(row, "flags")) for row in rows)
    scans = "1 scan is" if len(rows) == 1 else f"{len(rows)} scans are"
    if not flagged:
        return f"{scans} here, and none is flagged."
    return f"{scans} here, and {flagged} {'is' if flagged == 1 else 'are'} flagged."


def _reasons(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Measures that flagged scans, and how many each, the most first."""
    names = [word.split(" ")[0] for row in rows for word in _words(row, "flags")]
    counts = {name: names.count(name) for name in MEASURES if name in names}
    found = sorted(counts.items(), key=lambda item: -item[1])
    return [(MEASURES[name].words, count) for name, count in found]


def _scan(
    number: int,
    row: Row,
    labels: Sequence[str],
    shown: Sequence[str],
    planes: Callable[[str], Planes | None],
) -> dict[str, Any]:
    found = planes(row["key"]) if row.get("key") else None
    return {
        "number": number,
        "name": _name(row),
        "key": str(row.get("key") or ""),
        "labels": [row.get(name) or "" for name in labels],
        "flags": _words(row, "flags"),
        "doubts": _words(row, "doubts"),
        "cells": [_cell(row.get(name)) for name in shown],
        "pictures": _pictures(found) if found else [],
    }


def _name(row: Row) -> str:
    """Subject, session and sequence, or the file's name where none is known."""
    words = [row.get(name) for name in LABELS]
    name = Path(str(row.get("source") or row.get("key") or "scan")).name
    return " ".join(str(word) for word in words if word) or name


def _files(rows: Sequence[Row]) -> list[str]:
    """What each scan is called below the folder they share: where that is, is private.

    Of scans that share none, the last name alone.
    """
    sources = [str(row.get("source") or "") for row in rows]
    try:
        shared = os.path.commonpath([os.path.dirname(s) for s in sources if s])
    except ValueError:  # none at all, or some of them relative
        return [os.path.basename(source) for source in sources]
    if shared == os.sep:
        return [os.path.basename(source) for source in sources]
    return [source and os.path.relpath(source, shared or ".") for source in sources]


def _words(row: Row, name: str) -> tuple[str, ...]:
    return tuple(row.get(name) or ())


def _cell(value: float | None) -> tuple[str, str]:
    """What is sorted by, and what is shown."""
    return ("", "–") if value is None else (f"{value:.9g}", show_short(value))


def _pictures(planes: Planes) -> list[tuple[str, str, str]]:
    """Name, picture and outline of each plane."""
    return [
        (name, data_uri(grey_png(image)), data_uri(outline_png(outline, OUTLINE)))
        for (name, _), image, outline in zip(
            PLANES, planes.images, planes.outlines, strict=True
        )
    ]


def _no_planes(key: str) -> None:
    return None


def _strip(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The distribution of one measure: dots along a line, those flagged by it apart."""
    known = [(i, float(r[name])) for i, r in enumerate(rows) if r.get(name) is not None]
    values = np.array([value for _, value in known])
    low, high = float(values.min()), float(values.max())
    places = (np.append(values, np.median(values)) - low) / (high - low or 1)
    *across, middle = (places * (STRIP_WIDTH - 12) + 6).tolist()
    heights = [_height(number) for number in range(len(known))]
    marked = [_flagged_by(rows[i], name) for i, _ in known]
    points = list(zip(across, heights, marked, known, strict=True))
    return {
        "name": name,
        "about": MEASURES[name],
        "middle": round(middle, 1),
        "low": show_short(low),
        "median": show_short(float(np.median(values))),
        "high": show_short(high),
        "count": len(known),
        "dots": "".join(
            f"M{x:.1f} {y:.1f}h0" for x, y, flagged, _ in points if not flagged
        ),
        "flagged": [
            (round(x, 1), round(y, 1), i, _name(rows[i]), show_short(value))
            for x, y, flagged, (i, value) in points
            if flagged
        ],
    }


def _height(number: int) -> float:
    """Spreads dots over the height of a strip, evenly and the same each time."""
    return 4 + (number * 0.618034 % 1) * (STRIP_HEIGHT - 8)


def _flagged_by(row: Row, name: str) -> bool:
    return any(word.split(" ")[0] == name for word in _words(row, "flags"))
