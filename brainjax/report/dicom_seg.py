"""A DICOM segmentation of a series, on its own grid, through highdicom.

One segment for each class, of type BINARY, coded by `codes.py`. Each frame lies where
the source's frame lies, to the digit, and refers to it.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from brainjax.errors import InputRefusedError
from brainjax.report.codes import Structure, structure_of
from brainjax.report.dicom_objects import (
    Algorithm,
    coding_schemes,
    concept,
    made_by,
    restore,
    save,
    series_number,
)
from brainjax.report.dicom_source import Source, highdicom_package
from brainjax.report.dicom_uids import digest_of, set_when, uid_of
from brainjax.volume.dicom_elements import quietly, text_of


def write_seg(
    path: str | Path,
    source: Source,
    labels: UInt8[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k n"],
    names: list[str] | tuple[str, ...],
    algorithm: Algorithm,
    *,
    when: datetime | None = None,
    fresh: bool = False,
) -> Any:
    """Writes a segmentation, and gives it as highdicom holds it.

    Args:
        path: of the file.
        source: what the labels are of, as `read_source` gives it.
        labels: on its grid, [column, row, slice]: of class n + 1 where `names[n]` is,
            0 elsewhere; or a mask for each name, which may overlap.
        names: of the classes, at least one.
        algorithm: what made them.
        when: date and time of the object; those of the series where None.
        fresh: identifiers of chance, so that a rerun is another object.

    Raises:
      InputRefusedError: labels on another grid, or beyond the names.
      MissingExtraError: highdicom is not installed.
    """
    _check(source, labels, names)
    made = _build(source, labels, names, algorithm, when, fresh)
    save(made, path)
    return made


def _build(
    source: Source,
    labels: Shaped[np.ndarray, "i j k *n"],
    names: list[str] | tuple[str, ...],
    algorithm: Algorithm,
    when: datetime | None,
    fresh: bool,
) -> Any:
    high = highdicom_package()
    instances = [text_of(header, "SOPInstanceUID") for header in source.headers]
    digest = digest_of(
        labels, list(names), algorithm, instances, when, high.__version__
    )
    uids = {
        what: uid_of(digest, what=what, fresh=fresh)
        for what in ("segmentation", "series", "dimensions")
    }
    planes = np.moveaxis(labels, 2, 0).swapaxes(1, 2)
    if source.frames:
        planes = planes[np.argsort(source.frames)]
    segments = _segments(names, algorithm, digest, fresh)
    with quietly():
        made = high.seg.Segmentation(
            source_images=list(source.headers),
            pixel_array=np.ascontiguousarray(planes),
            segmentation_type=high.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=uids["series"],
            series_number=series_number(source, 1),
            sop_instance_uid=uids["segmentation"],
            instance_number=1,
            **made_by(algorithm),
            device_serial_number=algorithm.facts.get("checkpoint", "none")[:64],
            content_label="BRAINJAX_SEG",
            content_description="Brain structures by an automatic method",
            series_description="Segmentation by brainjax",
            coding_schemes=coding_schemes(names),
        )
        for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
            item.DimensionOrganizationUID = uids["dimensions"]
        restore(made, source)
        set_when(made, source.headers[0], when)
    return made


def _check(
    source: Source,
    labels: Shaped[np.ndarray, "i j k *n"],
    names: list[str] | tuple[str, ...],
) -> None:
    if labels.shape[:3] != source.shape:
        raise InputRefusedError(
            f"{source.name}: wanted labels of {source.shape}, got {labels.shape[:3]}"
        )
    if not names or len(set(names)) < len(names):
        raise InputRefusedError(
            f"{source.name}: wanted names that differ, got {list(names)}"
        )
    most = labels.shape[3] if labels.ndim == 4 else int(labels.max())
    if most > len(names) or (labels.ndim == 4 and most < len(names)):
        raise InputRefusedError(
            f"{source.name}: wanted classes up to {len(names)}, got {most}"
        )


def _segments(
    names: list[str] | tuple[str, ...], algorithm: Algorithm, digest: str, fresh: bool
) -> list[Any]:
    from pydicom.sr.codedict import codes

    high = highdicom_package()
    facts = {key: str(value)[:64] for key, value in algorithm.facts.items()}
    made_by = high.AlgorithmIdentificationSequence(
        name=algorithm.name[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version[:64],
        parameters=facts or None,
    )
    segments = []
    for number, name in enumerate(names, start=1):
        structure = structure_of(name)
        segment = high.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=concept(structure.category),
            segmented_property_type=concept(structure.kind),
            algorithm_type=high.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
            tracking_uid=uid_of(digest, what=f"tracking {name}", fresh=fresh),
            tracking_id=name[:64],
            anatomic_regions=[concept(structure.site)] if structure.site else None,
        )
        segments.append(_described(segment, structure))
    return segments


def _described(segment: Any, structure: Structure) -> Any:
    """Adds what highdicom has no argument for: the side, and a missing public term."""
    if structure.side is not None:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(structure.side)]
    if not structure.standard:
        segment.SegmentDescription = "No public term is known for this name."
    return segment
