"""What a segmentation and a report share: who made them, and whose they are."""

import copy
import os
from pathlib import Path
from typing import Any, NamedTuple

from brainjax.report.codes import PRIVATE, Code, structure_of
from brainjax.report.dicom_source import Source, highdicom_package
from brainjax.volume.dicom_elements import quietly, text_of

MAKER = "brainjax"
SERIES_OFFSET = 1000
"""Added to the number of the source's series; the report's has twice that."""


class Algorithm(NamedTuple):
    """What made the labels: a name, a version, and what else may be said of it.

    facts: such as the hashes of recipe and checkpoint; they are written as they are.
    """

    name: str
    version: str
    facts: dict[str, str]


def made_by(algorithm: Algorithm) -> dict[str, str]:
    """Gives highdicom's words for what made an object."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": algorithm.name[:64],
        "software_versions": algorithm.version[:64],
    }


def concept(code: Code) -> Any:
    """Gives a code as highdicom writes it."""
    return highdicom_package().sr.CodedConcept(*code)


def coding_schemes(names: list[str] | tuple[str, ...]) -> list[Any] | None:
    """Gives what the private scheme is, where a name needs it."""
    if all(structure_of(name).standard for name in names):
        return None
    item = highdicom_package().coding_schemes.CodingSchemeIdentificationItem
    return [item(designator=PRIVATE, name="Names of classes in brainjax")]


def series_number(source: Source, which: int) -> int:
    """Gives the number of a new series of the study, from that of the source."""
    number = text_of(source.headers[0], "SeriesNumber")
    base = int(number) if number.isdigit() else 1
    return (base + which * SERIES_OFFSET) % 2**31 or 1


def restore(made: Any, source: Source) -> None:
    """Puts the patient back as the source writes it, odd values too."""
    for element in source.patient:
        made[element.tag] = copy.deepcopy(element)


def save(made: Any, path: str | Path) -> None:
    """Writes an object whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with quietly():
            made.save_as(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
