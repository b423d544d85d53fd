"""Masks as DICOM-SEG objects: read back by pydicom, and by `xferlab import`."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless, SegmentationStorage

from tests.cli.test_predict import pixels, rows
from tests.conftest import Command, Said
from tests.data.test_dicom import write
from tests.importing.layouts import imported, table
from tests.studies import write_study
from xferlab import __version__
from xferlab.cli.main import main
from xferlab.data.decode import read_image
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.trial.dicom_seg import object_of
from xferlab.trial.predictor import Predictor

pytestmark = pytest.mark.component

HEIGHT, WIDTH = 44, 60
RADIOGRAPH, CT, UID = (
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.826.0.1.3680043.8.498.4711",
)
PATIENT = {
    "SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg", "PatientID": "4711",
    "PatientSex": "M", "PatientIdentityRemoved": "NO", "StudyDate": "20260102", "AccessionNumber": "A1",
}  # fmt: skip
SLICE = {
    "SOPClassUID": CT, "Modality": "CT", "FrameOfReferenceUID": f"{UID}.9", "PixelSpacing": [0.7, 0.8],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [-10.5, 3, 40],
    "SliceThickness": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A storage with a trial of two structures."""
    root = tmp_path_factory.mktemp("study")
    study = write_study(
        root,
        repetitions=1,
        data={"a": {"source": "phantom_cxr", "count": {"normal": 8, "covid19": 8}, "size_px": 32}},
        stages={
            "several": {"data": "a", "structures": ["left_lung", "heart"]},
        },
        training={"max_epochs": 1, "patience": 1, "batch_size": 8, "device": "cpu", "precision": "float32"},
        arms={"a": {}},
        overlay_cases=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(root / "cache"))
        location = str(root / "storage")
        assert main(["run", str(study), "--executor", "in-process", "--storage", location]) == 0
    yield location
    torch.set_num_threads(1)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A radiograph in several forms, and a slice; each of its own UID."""
    folder = tmp_path / "in"
    folder.mkdir()
    values = np.random.default_rng(3).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
    _dicom(folder / "plain.dcm", values, 1)
    _dicom(folder / "dark.dcm", 4095 - values, 2, PhotometricInterpretation="MONOCHROME1")
    packed = dcmread(_dicom(folder / "packed.dcm", values, 3))
    packed.compress(RLELossless)
    packed.save_as(folder / "packed.dcm")
    _dicom(folder / "IM0004", values, 4, **SLICE)
    return folder


def _dicom(path: Path, values: np.ndarray, number: int, **more: Any) -> Path:
    uids = {
        "StudyInstanceUID": f"{UID}.1",
        "SeriesInstanceUID": f"{UID}.2",
        "SOPInstanceUID": f"{UID}.3.{number}",
    }
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    fields = {"SOPClassUID": RADIOGRAPH, "Modality": "DX", **window, **uids, **PATIENT, **more}
    return write(path, values, **fields)


@pytest.fixture
def predict(storage: str, command: Command) -> Callable[..., Said]:
    def predict(*images: object, **options: Any) -> Said:
        place = ("--out", options.pop("out", "out"), "--storage", storage)
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return command("predict", "a/several/r01", *images, *place, "--format", "dicom-seg", *words)

    return predict


def _level(storage: str, image: Path) -> str:
    """A threshold with pixels of the left lung on either side."""
    store = Store.open(storage)
    ids = {trial["stage"]: trial["trial_id"] for trial in reader.read_plan(store, "tiny")["trials"]}
    predictor = Predictor.of_trial(store, ids["several"], torch.device("cpu"))
    (output,) = predictor.predictions([predictor.prepared(read_image(image))])
    return f"{np.median(output[0]):.4f}"


def test_masks_are_read_back_by_pydicom_and_by_import(
    predict: Callable[..., Said],
    storage: str,
    images: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    level = _level(storage, images / "plain.dcm")
    said = predict("in", threshold=level)
    assert (said.code, said.err) == (
        0,
        "warning: 1 CT image (first: in/IM0004); the weights were trained on chest X-rays\n",
    )
    assert "*_overlay.png, *_seg.dcm, predictions.csv" in said.out
    masks = {}
    for row in rows(tmp_path / "out"):
        source, written = dcmread(row["input"]), dcmread(tmp_path / "out" / row["dicom_seg"])
        shown = [pixels(tmp_path / "out" / row[f"mask_{name}"]) for name in ("left_lung", "heart")]
        assert (written.pixel_array * 255 == np.stack(shown)).all()
        masks[Path(row["input"]).name] = written.pixel_array
        assert len(np.unique(shown[0])) == 2
        _refers(written, source)
    assert (masks["plain.dcm"] == masks["dark.dcm"]).all()
    assert (masks["plain.dcm"] == masks["packed.dcm"]).all()
    for path in (tmp_path / "out").glob("*_seg.dcm"):
        shutil.copy(path, images)
    _, section = imported(capfd, images, "--patient", "dicom", "--layout", "dicom-seg")
    assert section["labels"] == {"left_lung": [255], "heart": [255]}
    assert len(table(images)) == len(masks)
    for row in table(images):
        read = [pixels(images / row[f"mask_{name}"]) == 255 for name in ("left_lung", "heart")]
        assert (np.stack(read) == masks[row["image"]]).all()


def _refers(written: Dataset, source: Dataset) -> None:
    """Checks what an object tells of its image."""
    assert written.SOPClassUID == SegmentationStorage
    for name in (*PATIENT, "StudyInstanceUID"):
        assert name == "SpecificCharacterSet" or written[name].value == source[name].value
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    (series,) = written.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    for number, frame in enumerate(written.PerFrameFunctionalGroupsSequence, start=1):
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        assert ("PlanePositionSequence" in frame) == ("ImagePositionPatient" in source)
    assert ("PatientOrientation" in written) == ("ImagePositionPatient" not in source)
    lung, heart = written.SegmentSequence
    assert [lung.SegmentLabel, heart.SegmentLabel] == ["left_lung", "heart"]
    (algorithm,) = lung.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("xferlab", __version__)
    assert re.fullmatch(r"trial=[0-9a-f]{16},threshold=0\.[0-9]+", algorithm.AlgorithmParameters)
    (kind,) = lung.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert heart.SegmentedPropertyTypeCodeSequence[0].CodeValue == "80891009"


@pytest.mark.parametrize(
    ("fields", "moment"),
    [
        ({"ContentDate": "20260105", "ContentTime": "101112.5", "AcquisitionDate": "20260104"},
         ("20260105", "101112.5")),
        ({"ContentDate": "", "AcquisitionDate": "20260104", "AcquisitionTime": "1011"},
         ("20260104", "1011")),
        ({"ContentTime": "101112", "StudyTime": ""}, ("20260102", "000000")),
        ({"StudyDate": ""}, ("19000101", "000000")),
    ],
)  # fmt: skip
def test_equal_input_gives_equal_files_whose_date_is_that_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str], moment: tuple[str, str]
) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    image = _dicom(tmp_path / "image.dcm", values, 1, **fields)
    first, again = (object_of(image, {"heart": values == 0}, made_by="trial=a") for _ in range(2))
    assert first == again
    written = dcmread(io.BytesIO(first))
    assert (written.ContentDate, written.ContentTime) == moment
    monkeypatch.setattr("xferlab.trial.dicom_seg.__version__", "999.0")
    other = dcmread(io.BytesIO(object_of(image, {"heart": values == 0}, made_by="trial=a")))
    assert other.SOPInstanceUID != written.SOPInstanceUID
    assert other.SeriesInstanceUID != written.SeriesInstanceUID


def test_equal_masks_have_equal_uids_and_a_structure_without_a_code_a_private_one(images: Path) -> None:
    marked = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 7 == 0
    masks = {"lungs": marked, "ribs": ~marked, "device_or_foreign_object": marked & False}

    def written(masks: dict[str, np.ndarray], made_by: str = "trial=a", image: str = "IM0004") -> Dataset:
        data = object_of(images / image, masks, made_by=made_by)
        (images / "seg.dcm").write_bytes(data)
        return dcmread(images / "seg.dcm")

    first = written(masks)
    assert (first.pixel_array == np.stack(list(masks.values()))).all()
    uids = [first.SOPInstanceUID, first.SeriesInstanceUID]
    assert [written(masks)[name].value for name in ("SOPInstanceUID", "SeriesInstanceUID")] == uids
    others = [
        written({**masks, "ribs": marked}),
        written(masks, "trial=b"),
        written(masks, image="plain.dcm"),
    ]
    assert len({uids[0], *(other.SOPInstanceUID for other in others)}) == 4
    assert [other.SeriesInstanceUID == uids[1] for other in others] == [True, False, True]
    lungs, ribs, device = (segment.SegmentedPropertyTypeCodeSequence[0] for segment in first.SegmentSequence)
    assert (lungs.CodeValue, ribs.CodeValue) == ("39607008", "113197003")
    assert "SegmentedPropertyTypeModifierCodeSequence" not in lungs
    assert (device.LongCodeValue, device.CodingSchemeDesignator) == ("device_or_foreign_object", "99XFERLAB")
    shared = first.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == SLICE["ImageOrientationPatient"]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == SLICE["PixelSpacing"]


def test_a_frame_of_an_enhanced_image_keeps_its_place(tmp_path: Path) -> None:
    def items(**elements: object) -> list[Dataset]:
        item = Dataset()
        for name, value in elements.items():
            setattr(item, name, value)
        return [item]

    spaced = items(PixelSpacing=SLICE["PixelSpacing"], SliceThickness=2)
    turned = items(ImageOrientationPatient=SLICE["ImageOrientationPatient"])
    placed = items(ImagePositionPatient=SLICE["ImagePositionPatient"])
    image = _dicom(
        tmp_path / "enhanced.dcm",
        np.zeros((HEIGHT, WIDTH), np.uint16),
        1,
        FrameOfReferenceUID=SLICE["FrameOfReferenceUID"],
        SharedFunctionalGroupsSequence=items(PixelMeasuresSequence=spaced, PlaneOrientationSequence=turned),
        PerFrameFunctionalGroupsSequence=items(PlanePositionSequence=placed),
    )
    written = dcmread(io.BytesIO(object_of(image, {"heart": np.ones((HEIGHT, WIDTH), bool)}, made_by="a=b")))
    (shared,), (frame,) = written.SharedFunctionalGroupsSequence, written.PerFrameFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence == spaced
    assert shared.PlaneOrientationSequence == turned
    assert frame.PlanePositionSequence == placed
    assert "PatientOrientation" not in written


def test_images_that_no_object_can_refer_to_are_refused_before_any_prediction(
    predict: Callable[..., Said], images: Path, tmp_path: Path
) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    _dicom(images / "bare.dcm", values, 5, StudyInstanceUID="", SeriesInstanceUID="")
    shutil.copy(next(Path(__file__).parents[2].glob("docs/*.png")), images / "picture.png")
    said = predict("in")
    assert said.code == 2
    assert (
        "in/bare.dcm: has no StudyInstanceUID, SeriesInstanceUID, by which a DICOM-SEG object refers to it."
        in said.err
    )
    assert (
        "in/picture.png: is no DICOM file. Leave out this file or the option --format dicom-seg." in said.err
    )
    assert not (tmp_path / "out").exists()
