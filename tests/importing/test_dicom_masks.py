"""DICOM images and the segmentation objects that name them, written by pydicom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage, generate_uid

from tests.data.test_dicom import write
from tests.importing.layouts import imported, is_accepted, table
from tests.refusals import problems_of
from xferlab.data.decode import read_labels
from xferlab.data.nifti import check_slice
from xferlab.errors import DataError
from xferlab.importing.dicom_masks import has_objects, read_objects

SHAPE = (12, 10)
AXIAL, TURNED = [1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0]
Frame = tuple[int, int, np.ndarray]
"""Number of the image, number of the segment, and pixels."""


def uid(number: int) -> str:
    return generate_uid(entropy_srcs=[f"image {number}"])


def images(folder: Path, *, count: int = 6, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 4000, SHAPE).astype(np.uint16)
        fields = {"PatientID": f"Doe^{number // 2}", "SOPInstanceUID": uid(number), **more}
        fields["SOPClassUID"] = "1.2.840.10008.5.1.4.1.1.1.1"
        write(folder / f"IM{number:04}", pixels, **fields)  # as many archives name them
    return folder


def items(**fields: Any) -> list[Dataset]:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return [item]


def segmentation(
    path: Path, frames: Sequence[Frame], labels: Sequence[str] = ("left lung", "heart"), **more: Any
) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SegmentationStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = SegmentationStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SegmentationType = "SEG", more.pop("kind", "BINARY")
    dataset.Rows, dataset.Columns = frames[0][2].shape
    dataset.NumberOfFrames, dataset.SamplesPerPixel, dataset.PixelRepresentation = len(frames), 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    bits = more.pop("bits", 1)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    values = np.stack([pixels for _, _, pixels in frames]).astype(np.uint8)
    dataset.PixelData = pack_bits(values, pad=True) if bits == 1 else values.tobytes()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SegmentSequence = [
        items(SegmentNumber=number, SegmentLabel=label)[0] for number, label in enumerate(labels, 1)
    ]
    for segment, meaning in zip(dataset.SegmentSequence, more.pop("meanings", ()), strict=False):
        segment.SegmentedPropertyTypeCodeSequence = items(CodeMeaning=meaning)
    named = more.pop("named", [])
    if named:
        instances = [items(ReferencedSOPInstanceUID=uid(number))[0] for number in named]
        dataset.ReferencedSeriesSequence = items(ReferencedInstanceSequence=instances)
    if "directions" in more:
        plane = items(ImageOrientationPatient=more.pop("directions"))
        dataset.SharedFunctionalGroupsSequence = items(PlaneOrientationSequence=plane)
    has_sources = more.pop("has_sources", True)
    dataset.PerFrameFunctionalGroupsSequence = [
        items(
            SegmentIdentificationSequence=items(ReferencedSegmentNumber=segment),
            **({"DerivationImageSequence": source(number)} if has_sources else {}),
        )[0]
        for number, segment, _ in frames
    ]
    if more.pop("is_compressed", False):
        dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def source(number: int) -> list[Dataset]:
    return items(SourceImageSequence=items(ReferencedSOPInstanceUID=uid(number)))


def square(first: int) -> np.ndarray:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[first : first + 4, 2:7] = 1
    return pixels


def test_each_frame_marks_the_image_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "study" / "images", count=12).parent
    frames = [(number, 1, square(number % 8)) for number in (3, 0, 1, 2, *range(4, 11))]
    frames += [(3, 2, square(7)), (99, 1, square(1))]
    segmentation(folder / "seg.dcm", frames)
    said, section = imported(capsys, folder, "--patient", "dicom")
    assert "read as DICOM images with DICOM-SEG objects" in said
    assert section["labels"] == {"left_lung": [255], "heart": [255]}
    assert "seg.dcm: warning: marks 1 images that are not in the folder." in said
    rows = table(folder)
    assert (rows[3]["image"], rows[3]["mask_heart"]) == (
        "images/IM0003",
        "masks_dicom/heart/images/IM0003.png",
    )
    assert (rows[11]["image"], rows[11]["mask_heart"]) == ("images/IM0011", "")  # which no object names
    for number, row in enumerate(rows[:11]):
        lung, heart = (read_labels(folder / row[f"mask_{name}"]).values for name in section["labels"])
        assert (lung == 255 * square(number % 8)).all()
        assert (heart == (255 * square(7) if number == 3 else 0)).all()
    assert len({row["patient_id"] for row in rows}) == 6
    assert is_accepted(section, tmp_path)
    assert ", 0 of them new" in imported(capsys, folder)[0]


def test_label_maps_and_compressed_frames_are_read(tmp_path: Path) -> None:
    folder = images(tmp_path)
    values = square(1) + 2 * square(7)
    segmentation(tmp_path / "a.dcm", [(0, 1, values)], kind="LABELMAP", bits=8, is_compressed=True)
    entry = read_objects(folder).images[0]
    lung, heart = (read_labels(entry.masks[f"mask_{name}"]).values for name in ("left_lung", "heart"))
    assert ((lung == 255) == (values == 1)).all()
    assert ((heart == 255) == (values == 2)).all()


def test_no_structure_is_called_ignore(tmp_path: Path) -> None:
    folder = images(tmp_path)
    frames = [(0, number, np.eye(*SHAPE, k=number)) for number in (1, 2)]
    segmentation(folder / "seg.dcm", frames, labels=("ignore", "heart"))
    assert read_objects(folder).columns == ("mask_segment_1", "mask_heart")


LUNG, HEART = "\u80ba", "\u5fc3\u81d3"


def test_labels_without_ascii_are_one_structure_in_all_objects(tmp_path: Path) -> None:
    folder = images(tmp_path)
    frames = [(0, 1, square(1)), (0, 2, square(6))]
    segmentation(tmp_path / "a.dcm", frames, (LUNG, HEART), meanings=("Lung", "Heart"))
    frames = [(1, 1, square(6)), (1, 2, square(1))]
    segmentation(tmp_path / "b.dcm", frames, (HEART, LUNG), meanings=("Heart", "Lung"))
    for entry in read_objects(folder).images[:2]:
        assert set(entry.masks) == {"mask_Lung", "mask_Heart"}
        assert (read_labels(entry.masks["mask_Lung"]).values == 255 * square(1)).all()


def test_numbers_name_structures_where_they_are_the_same_in_all_objects(tmp_path: Path) -> None:
    folder = images(tmp_path)
    more: dict[str, Any] = {"labels": (f"{LUNG}\u5de6", f"{LUNG}\u53f3"), "meanings": ("Lung", "Lung")}
    for number in range(2):
        frames = [(number, 1, square(1)), (number, 2, square(6))]
        segmentation(tmp_path / f"{number}.dcm", frames, **more)
    assert read_objects(folder).columns == ("mask_segment_1", "mask_segment_2")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            (LUNG, HEART), (HEART, LUNG),
            f"has the segment '{HEART}', which would be the structure segment_1, as is '{LUNG}' of ",
        ),
        ((LUNG,), ("heart", LUNG), f"has the segment '{LUNG}' under another number than other objects"),
        (("Lesion (ER+)",), ("Lesion (ER-)",), r"'Lesion \(ER-\)', which would be the structure Lesion_ER"),
        (("Lesion (ER+)", "Lesion (ER-)"), ("heart",), r"Lesion_ER, as is 'Lesion \(ER\+\)' of .*a\.dcm"),
        ((f"{'x' * 60} 1", f"{'x' * 60} 2"), ("heart",), "has the segment 'x* 2', which would be"),
    ],
)  # fmt: skip
def test_labels_that_would_share_a_name_are_refused(
    tmp_path: Path, first: Sequence[str], second: Sequence[str], message: str
) -> None:
    folder = images(tmp_path)
    for number, labels in enumerate((first, second)):
        frames = [(number, segment, square(segment)) for segment in range(1, len(labels) + 1)]
        segmentation(tmp_path / f"{'ab'[number]}.dcm", frames, labels)
    problems_of(DataError, read_objects, folder, match=message)


def test_labels_that_differ_in_blanks_are_one(tmp_path: Path) -> None:
    folder = images(tmp_path)
    frames = [(0, 1, square(1)), (0, 2, square(6))]
    segmentation(tmp_path / "a.dcm", frames, ("left lung", "left_lung"))
    (entry, *_) = read_objects(folder).images
    (path,) = entry.masks.values()
    assert (read_labels(path).values == 255 * (square(1) | square(6))).all()


def test_the_direction_of_an_enhanced_image_is_that_of_its_groups(tmp_path: Path) -> None:
    plane = items(PlaneOrientationSequence=items(ImageOrientationPatient=AXIAL))
    folder = images(tmp_path, SharedFunctionalGroupsSequence=plane)
    segmentation(tmp_path / "a.dcm", [(0, 1, square(1))], directions=TURNED)
    (problem,) = read_objects(folder).left_out
    assert "turned otherwise" in problem.what


def test_an_object_about_one_image_needs_no_sources(tmp_path: Path) -> None:
    folder = images(tmp_path)
    segmentation(tmp_path / "a.dcm", [(9, 1, square(1))], has_sources=False, named=[4])
    masks = [sorted(entry.masks) for entry in read_objects(folder).images]
    assert masks == [[], [], [], [], ["mask_heart", "mask_left_lung"], []]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"has_sources": False}, r"does not say which image its frame 1 marks \(0 are named\)"),
        (
            {"has_sources": False, "named": [0, 1]},
            r"does not say which image its frame 1 marks \(2 are named\)",
        ),
        ({"directions": TURNED}, "has frames in another plane, or turned otherwise, than"),
        ({"kind": "FRACTIONAL", "bits": 8}, "is of the type FRACTIONAL; BINARY and LABELMAP are accepted"),
        ({"frame": (9, 1, square(1))}, "marks images that are not in the folder"),
        ({"frame": (0, 1, np.ones((5, 4), np.uint8))}, "has frames of 4x5 pixels; .* has 10x12"),
        ({"frame": (0, 7, square(1))}, "cannot be read as a DICOM-SEG object: 7"),
    ],
)
def test_objects_that_cannot_be_joined_are_left_out(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    folder = images(tmp_path, ImageOrientationPatient=AXIAL)
    more = dict(more)
    segmentation(tmp_path / "a.dcm", [more.pop("frame", (0, 1, square(1)))], **more)
    listing = read_objects(folder)
    (problem,) = listing.left_out
    assert problem.where == str(tmp_path / "a.dcm")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problem.what)
    assert not any(entry.masks for entry in listing.images)


def test_masks_of_an_object_that_is_deleted_leave_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "study" / "images", count=4).parent
    for number in range(4):
        segmentation(folder / f"seg{number}.dcm", [(number, 1, square(number))], ["Lung"])
    imported(capsys, folder, "--patient", "dicom")
    (folder / "seg2.dcm").unlink()
    said, _ = imported(capsys, folder, "--patient", "dicom")
    assert "4 images, 0 of them new, 1 changed" in said
    assert "mask_Lung: 3 of 4 images have one" in said
    assert table(folder)[2]["mask_Lung"] == ""
    for number in (0, 1, 3):  # of another folder, so that objects remain
        segmentation(folder / f"seg{number}.dcm", [(99, 1, square(number))], ["Lung"])
    imported(capsys, folder, "--patient", "dicom")
    assert {row["mask_Lung"] for row in table(folder)} == {""}


def test_images_whose_names_differ_in_their_endings_have_masks_of_their_own(tmp_path: Path) -> None:
    images(tmp_path, count=2)
    (tmp_path / "IM0001").rename(tmp_path / "IM0000.dcm")
    for number in range(2):
        segmentation(tmp_path / f"seg{number}.dcm", [(number, 1, square(3 * number))], ["Lung"])
    found = {entry.image.name: entry.masks["mask_Lung"] for entry in read_objects(tmp_path).images}
    assert {name: path.name for name, path in found.items()} == {
        "IM0000": "IM0000.png", "IM0000.dcm": "IM0000.dcm.png",
    }  # fmt: skip
    for number, path in enumerate(found.values()):
        assert (read_labels(path).values == 255 * square(3 * number)).all()


def test_two_objects_about_one_structure_are_refused(tmp_path: Path) -> None:
    folder = images(tmp_path)
    for name in ("a.dcm", "b.dcm"):
        segmentation(tmp_path / name, [(0, 1, square(1))], ["heart"])
    problems_of(DataError, read_objects, folder, match=r"marks heart of .*IM0000, as .*a\.dcm does")


def test_folders_without_objects_have_another_layout(tmp_path: Path) -> None:
    assert not has_objects(images(tmp_path))
    problems_of(DataError, read_objects, tmp_path, match="holds no DICOM-SEG objects")


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.dcm")
    os.mkfifo(tmp_path / "x.nii")
    assert not has_objects(tmp_path)
    assert [problem.what for problem in problems_of(DataError, check_slice, tmp_path / "x.nii")] == [
        "cannot be read as NIfTI: [Errno 22] Is no regular file. Export it again."
    ]
