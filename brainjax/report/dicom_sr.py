"""A structured report of volumes and shapes: TID 1500 of DICOM, through highdicom.

One measurement group (TID 1411) for each segment: what it is, where, its volume in ml
and its shape in IBSI terms, each tied to the segment and to the series measured.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from brainjax.evaluate.shape import SHAPE_FEATURES, Shape
from brainjax.report.codes import ANATOMY, Code, Structure, structure_of
from brainjax.report.dicom_objects import (
    MAKER,
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

VOLUME = Code("118565006", "SCT", "Volume")
PROCEDURE = Code("24590-2", "LN", "Brain MRI")
COUNTED = Code("126030", "DCM", "Sum of segmented voxel method for volume")
UNITS = {
    "ml": Code("ml", "UCUM", "milliliter"),
    "mm": Code("mm", "UCUM", "millimeter"),
    "mm2": Code("mm2", "UCUM", "square millimeter"),
    "mm3": Code("mm3", "UCUM", "cubic millimeter"),
    "mm-1": Code("/mm", "UCUM", "per millimeter"),
    "1": Code("1", "UCUM", "no units"),
}
MEANINGS = {
    "mesh_volume": "Volume of Mesh",
    "surface_area": "Surface Area of Mesh",
    "surface_to_volume_ratio": "Surface to Volume Ratio",
    "compactness_1": "Compactness 1",
    "compactness_2": "Compactness 2",
    "spherical_disproportion": "Spherical Disproportion",
    "sphericity": "Sphericity",
    "asphericity": "Asphericity",
    "maximum_3d_diameter": "Maximum 3D Diameter of a Mesh",
    "major_axis_length": "Major Axis in 3D Length",
    "minor_axis_length": "Minor Axis in 3D Length",
    "least_axis_length": "Least Axis in 3D Length",
    "elongation": "Elongation",
    "flatness": "Flatness",
}
"""What DICOM calls the features of the IBSI (PS3.16, CID 7477)."""


def write_sr(
    path: str | Path,
    source: Source,
    segmentation: Any,
    shapes: dict[str, Shape],
    algorithm: Algorithm,
    *,
    when: datetime | None = None,
    fresh: bool = False,
) -> Any:
    """Writes a report of the segments of a segmentation, and gives it.

    Args:
        path: of the file.
        source: the series that was segmented.
        segmentation: as `write_seg` gives it.
        shapes: of each of its segments, by name, in their order.
        algorithm, when, fresh: as of `write_seg`.

    Raises MissingExtraError: highdicom is not installed.
    """
    made = _build(source, segmentation, shapes, algorithm, when, fresh)
    save(made, path)
    return made


def _build(
    source: Source,
    segmentation: Any,
    shapes: dict[str, Shape],
    algorithm: Algorithm,
    when: datetime | None,
    fresh: bool,
) -> Any:
    high = highdicom_package()
    digest = digest_of(segmentation.SOPInstanceUID, shapes, algorithm, when)
    uids = {
        what: uid_of(digest, what=what, fresh=fresh)
        for what in ("report", "report series")
    }
    observer = uid_of(digest_of(algorithm), what="observer")
    with quietly():
        made = high.sr.Comprehensive3DSR(
            evidence=[*source.headers, segmentation],
            content=_content(segmentation, shapes, algorithm, observer),
            series_instance_uid=uids["report series"],
            series_number=series_number(source, 2),
            sop_instance_uid=uids["report"],
            instance_number=1,
            **made_by(algorithm),
            series_description="Volumes and shapes by brainjax",
            is_complete=True,
            coding_schemes=coding_schemes(list(shapes)),
        )
        restore(made, source)
        set_when(made, source.headers[0], when)
    return made


def _content(
    segmentation: Any, shapes: dict[str, Shape], algorithm: Algorithm, observer: str
) -> Any:
    from pydicom.sr.codedict import codes

    sr = highdicom_package().sr
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=observer,
            name=algorithm.name[:64],
            manufacturer_name=MAKER,
            model_name=f"{MAKER} {algorithm.version}",
        ),
    )
    groups = [
        _group(segmentation, number, name, shape, algorithm)
        for number, (name, shape) in enumerate(shapes.items(), start=1)
    ]
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=concept(PROCEDURE),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )


def _group(
    segmentation: Any, number: int, name: str, shape: Shape, algorithm: Algorithm
) -> Any:
    sr = highdicom_package().sr
    segment = segmentation.SegmentSequence[number - 1]
    structure = structure_of(name)
    series = segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID
    finding, site = _finding(structure)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=text_of(segment, "TrackingUID"), identifier=name
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(series),
        ),
        finding_category=concept(structure.category),
        finding_type=concept(finding),
        finding_sites=[
            sr.FindingSite(
                concept(site),
                laterality=concept(structure.side) if structure.side else None,
            )
        ],
        algorithm_id=sr.AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=[f"{k}={v}" for k, v in algorithm.facts.items()] or None,
        ),
        measurements=_measurements(shape),
    )


def _finding(structure: Structure) -> tuple[Code, Code]:
    """Gives what was found and where: anatomy is itself the place of the finding."""
    if structure.site is not None:
        return structure.kind, structure.site
    return ANATOMY, structure.kind


def _measurements(shape: Shape) -> Sequence[Any]:
    measurement = highdicom_package().sr.Measurement
    found = [
        measurement(
            name=concept(VOLUME),
            value=round(shape.volume_ml, 6),
            unit=concept(UNITS["ml"]),
            method=concept(COUNTED),
        )
    ]
    for key, value in shape.features.items():
        if value is not None:
            feature = SHAPE_FEATURES[key]
            found.append(
                measurement(
                    name=concept(Code(feature.ibsi, "IBSI", MEANINGS[key])),
                    value=round(value, 6),
                    unit=concept(UNITS[feature.unit]),
                )
            )
    return found
