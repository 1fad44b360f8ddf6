"""DICOM series made for tests, from any array and affine."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
STUDY = "1.2.826.0.1.3680043.10.1.1"
NAME = "Wiseacre"

T1W = {
    "SeriesDescription": "t1_mprage_sag",
    "EchoTime": 2.98,
    "RepetitionTime": 2300.0,
    "InversionTime": 900.0,
    "FlipAngle": 9.0,
}


def lps(affine: np.ndarray) -> np.ndarray:
    """RAS to LPS mm, or back."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def header(number: int = 1, **elements) -> FileDataset:
    """A data set with everything but a place and pixels; elements go over it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(elements.get("SOPClassUID", MR))
    series = elements.get("SeriesInstanceUID", f"{STUDY}.1")
    meta.MediaStorageSOPInstanceUID = UID(f"{series}.{number}")
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    settings = {
        "SOPClassUID": MR,
        "SOPInstanceUID": f"{series}.{number}",
        "SeriesInstanceUID": f"{STUDY}.1",
        "StudyInstanceUID": STUDY,
        "Modality": "MR",
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Prisma",
        "MagneticFieldStrength": 3.0,
        "MRAcquisitionType": "3D",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "SeriesNumber": 3,
        "InstanceNumber": number,
        "AcquisitionNumber": 1,
        "PatientID": "4711",
        "PatientAge": "034Y",
        "PatientSex": "F",
        "StudyDate": "20200301",
        **T1W,
        **elements,
    }
    for keyword, value in settings.items():
        if value is not None:
            setattr(data, keyword, value)
    return data


def add_pixels(data: Dataset, pixels: np.ndarray) -> None:
    """Writes [..., row, column] integers of 16 bits into a data set."""
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel = 1
    if "PhotometricInterpretation" not in data:
        data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()
    data["PixelData"].VR = "OW"


def make_slices(voxels: np.ndarray, affine: np.ndarray, **elements) -> list[Dataset]:
    """One data set for each index of the last axis; `affine` is RAS, and may shear."""
    matrix = lps(affine)
    column_step, row_step = np.linalg.norm(matrix[:3, :2], axis=0).tolist()
    across, down = matrix[:3, 0] / column_step, matrix[:3, 1] / row_step
    slices = []
    for k in range(voxels.shape[2]):
        data = header(k + 1, **elements)
        data.PixelSpacing = [digits(row_step), digits(column_step)]
        data.ImageOrientationPatient = [digits(v) for v in (*across, *down)]
        place = matrix[:3, 3] + k * matrix[:3, 2]
        data.ImagePositionPatient = [digits(v) for v in place]
        add_pixels(data, voxels[:, :, k].T)
        slices.append(data)
    return slices


def digits(value: float) -> str:
    """A decimal string as DICOM allows: 16 characters at most."""
    return f"{value:.9f}"[:16]


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def save_all(slices: list[Dataset], folder: Path) -> Path:
    """Writes data sets under names whose order says nothing."""
    order = np.random.default_rng(len(slices)).permutation(len(slices))
    for name, data in zip(order, slices, strict=True):
        save(data, folder / f"IM{name:04d}")
    return folder


def write_series(folder: Path, voxels=None, affine=None, **elements) -> Path:
    """Writes a series; by default of the body of `scans.py`."""
    from tests.volume import scans

    voxels = scans.body() if voxels is None else voxels
    affine = scans.affine() if affine is None else affine
    return save_all(make_slices(voxels, affine, **elements), folder)


def make_multiframe(voxels: np.ndarray, affine: np.ndarray, **elements) -> Dataset:
    """An enhanced MR image: shared measures and direction, a place for each frame.

    Frames come in an order that says nothing; a slope of 2 is shared.
    """
    slices = make_slices(voxels, affine, **elements)
    data = header(1, **{"SOPClassUID": ENHANCED_MR, **elements})
    order = np.random.default_rng(0).permutation(len(slices))
    shared, measures, direction, values = (Dataset() for _ in range(4))
    measures.PixelSpacing = slices[0].PixelSpacing
    direction.ImageOrientationPatient = slices[0].ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "0", "US"
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([direction])
    shared.PixelValueTransformationSequence = Sequence([values])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = slices[k].ImagePositionPatient
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.NumberOfFrames = len(frames)
    add_pixels(data, np.stack([voxels[:, :, k].T for k in order]))
    return data


def oblique(affine: np.ndarray, degrees: float = 20.0) -> np.ndarray:
    """The affine turned round an axis that is none of the body's."""
    axis = np.array([0.36, 0.48, 0.8])
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn @ affine


def identify(data: Dataset) -> Dataset:
    """Fills a header with a name wherever one can stand."""
    for keyword in (
        *("PatientName", "OtherPatientNames", "PatientID", "PatientAddress"),
        *("PatientComments", "InstitutionName", "ReferringPhysicianName"),
        *("OperatorsName", "StudyDescription", "SeriesDescription", "ProtocolName"),
        *("PerformingPhysicianName", "ImageComments", "AccessionNumber", "StationName"),
        *("RequestedProcedureDescription", "ContrastBolusAgent", "SequenceName"),
        *("Manufacturer", "BodyPartExamined", "DeviceSerialNumber"),
    ):
        code = keyword == "BodyPartExamined"
        setattr(data, keyword, NAME.upper() if code else NAME)
    data.SeriesDescription = f"t1_mprage {NAME}"
    block = data.private_block(0x0029, "MADE FOR A TEST", create=True)
    block.add_new(0x10, "LO", NAME)
    data.RequestAttributesSequence = pydicom.Sequence([Dataset()])
    data.RequestAttributesSequence[0].RequestedProcedureDescription = NAME
    return data
