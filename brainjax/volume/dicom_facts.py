"""What may be known of a scan: facts of a closed list, age and sex, never a name."""

import re
from typing import Any

from brainjax.volume.dicom_elements import one, text_of
from brainjax.volume.dicom_sequence import Timing

MAKERS = ("SIEMENS", "GE", "PHILIPS", "CANON", "TOSHIBA", "HITACHI", "UIH", "FONAR")
"""Manufacturers, by the first word of the header's; any other is "other"."""


def timing_of(data: Any) -> Timing:
    frame = (data.get("PerFrameFunctionalGroupsSequence") or [None])[0]
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]

    def first(sequence: str, keyword: str, plain: str) -> float | None:
        for place in (frame, shared):
            items = place.get(sequence) if place is not None else None
            value = one(items[0], keyword) if items else None
            if value is not None:
                return value
        return one(data, plain)

    times = "MRTimingAndRelatedParametersSequence"
    return Timing(
        first("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
        first(times, "RepetitionTime", "RepetitionTime"),
        first("MRModifierSequence", "InversionTimes", "InversionTime"),
        first(times, "FlipAngle", "FlipAngle"),
    )


def facts_of(data: Any, timing: Timing) -> dict:
    """Gives what may go into a provenance: numbers, and words of a closed list."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    measures = shared.get("PixelMeasuresSequence") if shared is not None else None
    thickness = one(measures[0], "SliceThickness") if measures else None
    model = text_of(data, "ManufacturerModelName")
    known = re.fullmatch(r"[A-Za-z0-9 ._+/-]{1,32}", model)
    kind = text_of(data, "MRAcquisitionType").upper()
    facts = {
        "modality": code_of(text_of(data, "Modality")),
        "manufacturer": _maker(text_of(data, "Manufacturer")),
        "model": model if known else None,
        "field_strength_t": one(data, "MagneticFieldStrength"),
        "te_ms": timing.te,
        "tr_ms": timing.tr,
        "ti_ms": timing.ti,
        "flip_degrees": timing.flip,
        "slice_thickness_mm": one(data, "SliceThickness") or thickness,
        "acquisition": kind if kind in ("2D", "3D") else None,
        "contrast": _has_contrast(data),
    }
    return {name: value for name, value in facts.items() if value is not None}


def code_of(value: str) -> str:
    """Gives a code string of the standard, or "" where something else stands."""
    return value if re.fullmatch(r"[A-Z0-9_ ]{1,16}", value) else ""


def _maker(value: str) -> str | None:
    words = re.split(r"[^A-Z]+", value.upper())
    if not any(words):
        return None
    return next((maker for maker in MAKERS if maker in words), "other")


def _has_contrast(data: Any) -> bool:
    agent = text_of(data, "ContrastBolusAgent").lower().strip(" .")
    said = agent not in ("", "0", "n", "no", "none", "n/a", "nein", "ohne", "without")
    return said or bool(data.get("ContrastBolusAgentSequence"))


def age_of(data: Any) -> int | None:
    """Gives the age in whole years, of PatientAge ("034Y") or else of two dates."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text_of(data, "PatientAge").upper())
    if match:
        years = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[match[2]]
        return int(int(match[1]) / years)
    born = text_of(data, "PatientBirthDate")
    seen = text_of(data, "StudyDate") or text_of(data, "AcquisitionDate")
    if not all(re.fullmatch(r"\d{8}", date) for date in (born, seen)):
        return None
    years = (int(seen) - int(born)) // 10000
    return years if 0 <= years <= 120 else None
