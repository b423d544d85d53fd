"""Masks of a DICOM image as a DICOM-SEG object (PS3.3, A.51): binary, with a segment for each structure."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xferlab import __version__
from xferlab.errors import DataError

COLUMN, ENDING = "dicom_seg", "_seg.dcm"
"""The column of the table, and the ending of the file."""
_REFERRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LAST = "PerFrameFunctionalGroupsSequence"
"""The last element that is read of an image; the pixels come after it."""
_MACROS = ("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence")
"""Where images of enhanced classes hold the place of their frame."""
_EMPTY_IF_ABSENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
"""Elements of type 2: of whom an image is, and of which study."""
_IF_PRESENT = (
    "SpecificCharacterSet", "StudyInstanceUID", "StudyDescription", "InstanceNumber", "IssuerOfPatientID",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "PatientSexNeutered", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "PatientOrientation", "FrameOfReferenceUID",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""Further elements of these modules and of the image, each where the image has it."""
_PLACED = ("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
"""What slices have, and radiographs lack."""
_CONSTANT = {
    "InstanceNumber": 1,
    "LossyImageCompression": "00",
    "Modality": "SEG",
    "SeriesNumber": 1000,  # beyond those of scanners, which count from 1
    "SeriesDescription": "Masks by xferlab",
    "Manufacturer": "xferlab",
    "ManufacturerModelName": "xferlab",
    "DeviceSerialNumber": "1",
    "SoftwareVersions": __version__,
    "ImageType": ["DERIVED", "PRIMARY"],
    "ContentLabel": "MASKS",
    "ContentDescription": "",
    "ContentCreatorName": "",
    "SegmentationType": "BINARY",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 0,
    "PixelRepresentation": 0,
}
_DATED = ("Content", "Acquisition", "Study")
"""What date and time are taken of, the first that the image tells."""
_DATE = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_NO_DATE, _NO_TIME = "19000101", "000000"
_PRIVATE, _LONGEST_CODE = "99XFERLAB", 16
_SIDES = ("left", "right")

Masks = Mapping[str, npt.NDArray[np.bool_]]
Code = tuple[str, str, str]
"""Value, scheme and meaning."""


def header_of(path: Path) -> Any:
    """Returns what a DICOM image says before its pixels.

    Raises:
        DataError: The file is no DICOM file, or lacks a UID by which an object refers to it.
    """
    from xferlab.data.dicom_file import lift, read_header  # pydicom takes a while to import

    header = read_header(path, *_REFERRED, _LAST)
    lift(header, *_MACROS)
    if absent := [name for name in _REFERRED if not header.get(name)]:
        raise DataError.at(path, f"has no {', '.join(absent)}, by which a DICOM-SEG object refers to it.")
    return header


def object_of(path: Path, masks: Masks, *, made_by: str) -> bytes:
    """Returns the object of an image, in a series of its own of the same study.

    UIDs follow from those of the image, from `made_by`, from the masks and from the version of xferlab, and
    nothing from the clock: an archive holds equal masks once, and equal input gives equal bytes.

    Args:
        path: The image.
        masks: Where each structure is, by name, (H, W), of the size of the image; one at least.
        made_by: Which network made them, and how: `key=value,key=value`, the parameters of the algorithm.

    Raises:
        DataError: The image is none to which an object can refer.
    """
    from xferlab.data.dicom_file import READ_ERRORS, why

    source, file = header_of(path), io.BytesIO()
    try:
        content = _described(source, masks, made_by)
        _add_frames(content, source, np.stack(list(masks.values())))
        content.save_as(file, enforce_file_format=True)
    except READ_ERRORS as error:
        raise DataError.at(
            path, f"has a header that no DICOM-SEG object can take over: {why(error)}."
        ) from error
    return file.getvalue()


def _described(source: Any, masks: Masks, made_by: str) -> Any:
    """Returns the object without frames: patient, study, series, what it refers to, and its segments."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

    date, time = _moment(source)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    _set(content, **dict.fromkeys(_EMPTY_IF_ABSENT, ""), **_CONSTANT)
    for name in (*_EMPTY_IF_ABSENT, *_IF_PRESENT):
        if source.get(name):
            content[name] = source[name]
    if not _is_placed(source) and "PatientOrientation" not in content:
        content.PatientOrientation = ""  # of type 2 where no plane says it
    if "FrameOfReferenceUID" in content:
        content.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    pixels = (f"{name} {sha256(mask.tobytes()).hexdigest()}" for name, mask in masks.items())
    return _set(
        content,
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=SegmentationStorage,
        SOPInstanceUID=_uid(source.SOPInstanceUID, made_by, *pixels),
        SeriesInstanceUID=_uid(source.SeriesInstanceUID, made_by),
        ContentDate=date,
        ContentTime=time,
        SegmentSequence=[_segment(number, name, made_by) for number, name in enumerate(masks, start=1)],
        ReferencedSeriesSequence=[
            _item(SeriesInstanceUID=source.SeriesInstanceUID, ReferencedInstanceSequence=[_reference(source)])
        ],
    )


def _moment(source: Any) -> tuple[str, str]:
    """Returns date and time of an image; the first of 1900 at midnight where it tells no date."""
    for of in _DATED:
        date, time = (str(source.get(f"{of}{kind}", "")) for kind in ("Date", "Time"))
        if _DATE.fullmatch(date):
            return date, time if _TIME.fullmatch(time) else _NO_TIME
    return _NO_DATE, _NO_TIME


def _segment(number: int, name: str, made_by: str) -> Any:
    from pydicom.sr.codedict import codes

    category, kind, side = _meaning(name)
    sides = {"SegmentedPropertyTypeModifierCodeSequence": [_code(side)]} if side else {}
    algorithm = _item(
        AlgorithmFamilyCodeSequence=[_code(codes.DCM.ArtificialIntelligence)],
        AlgorithmName="xferlab",
        AlgorithmVersion=__version__,
        AlgorithmParameters=made_by,
    )
    return _item(
        SegmentNumber=number,
        SegmentLabel=name,
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName="xferlab",
        SegmentationAlgorithmIdentificationSequence=[algorithm],
        SegmentedPropertyCategoryCodeSequence=[_code(category)],
        SegmentedPropertyTypeCodeSequence=[_set(_code(kind), **sides)],
    )


@cache
def _meaning(name: str) -> tuple[Code, Code, Code | None]:
    """Returns the codes of a structure: its category, what it is, and its side.

    They are of SNOMED CT where the name is that of a body part (CID 4) or of a lesion (CID 7159), also in the
    plural: `left_lung` is a lung, and left. Others have a private code.
    """
    from pydicom.sr.codedict import codes

    words = name.lower().replace("-", "_").split("_")
    sides = [word.capitalize() for word in words if word in _SIDES]
    title = "".join(word.capitalize() for word in words if word not in _SIDES)
    categories = {
        codes.cid4: codes.SCT.AnatomicalStructure,
        codes.cid7159: codes.SCT.MorphologicallyAbnormalStructure,
    }
    for keyword in (title, title.removesuffix("s")) if len(sides) < len(_SIDES) else ():
        with suppress(AttributeError, RuntimeError):  # there is none, or several
            kind = getattr(codes.SCT, keyword)
            for group, category in categories.items():
                if kind in group.concepts.values():
                    return category[:3], kind[:3], getattr(codes.SCT, sides[0])[:3] if sides else None
    return codes.SCT.SpatialAndRelationalConcept[:3], (name, _PRIVATE, name), None


def _add_frames(content: Any, source: Any, frames: npt.NDArray[np.bool_]) -> None:
    """Adds the pixels, (S, H, W), and of each frame its segment, the image that it marks, and its place."""
    from pydicom.pixels import pack_bits
    from pydicom.sr.codedict import codes
    from pydicom.tag import Tag

    content.NumberOfFrames, content.Rows, content.Columns = frames.shape
    content.PixelData = pack_bits(frames.astype(np.uint8), pad=True)
    dimensions = _uid(content.SOPInstanceUID, "dimensions")
    content.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=dimensions)]
    content.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=dimensions,
            DimensionIndexPointer=Tag("ReferencedSegmentNumber"),
            FunctionalGroupPointer=Tag("SegmentIdentificationSequence"),
            DimensionDescriptionLabel="Segment",
        )
    ]
    is_placed = _is_placed(source)
    content.SharedFunctionalGroupsSequence = [_item(**(_plane(source) if is_placed else {}))]
    purpose = _code(codes.DCM.SourceImageForImageProcessingOperation)
    derived = _item(
        DerivationCodeSequence=[_code(codes.DCM.SegmentationImageDerivation)],
        SourceImageSequence=[
            _reference(source, PurposeOfReferenceCodeSequence=[purpose], SpatialLocationsPreserved="YES")
        ],
    )
    position = [_item(ImagePositionPatient=source.ImagePositionPatient)] if is_placed else None
    content.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[_item(DimensionIndexValues=number)],
            SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=number)],
            DerivationImageSequence=[derived],
            **({"PlanePositionSequence": position} if position else {}),
        )
        for number in range(1, len(frames) + 1)
    ]


def _is_placed(source: Any) -> bool:
    return all(source.get(name) for name in _PLACED)


def _plane(source: Any) -> dict[str, Any]:
    """Returns what all frames of a slice have in common."""
    thickness = source.get("SliceThickness")
    measures = _item(PixelSpacing=source.PixelSpacing, **({"SliceThickness": thickness} if thickness else {}))
    plane = _item(ImageOrientationPatient=source.ImageOrientationPatient)
    return {"PixelMeasuresSequence": [measures], "PlaneOrientationSequence": [plane]}


def _uid(*parts: str) -> str:
    """Returns a UID that follows from texts and from the version of xferlab (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '|'.join((__version__, *parts))).int}"


def _set(dataset: Any, **elements: Any) -> Any:
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def _item(**elements: Any) -> Any:
    from pydicom import Dataset

    return _set(Dataset(), **elements)


def _reference(source: Any, **more: Any) -> Any:
    return _item(
        ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID, **more
    )


def _code(code: Code) -> Any:
    value, scheme, meaning, *_ = code
    name = "CodeValue" if len(value) <= _LONGEST_CODE else "LongCodeValue"
    return _item(**{name: value}, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
