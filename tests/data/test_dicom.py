"""DICOM: real files written by pydicom, against the standard's formulas by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)

from tests.data.conftest import refusal
from xferlab.data.decode import read_image
from xferlab.data.dicom import has_padding_range
from xferlab.parallel import for_each

VALUES = np.arange(1200, dtype=np.uint16).reshape(30, 40)


def write(path: Path, stored: np.ndarray = VALUES, **fields: Any) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["xferlab"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def linear_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, output 0..255."""
    return np.clip(((values - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def is_near(path: Path, expected: np.ndarray, *, within: float = 0.501) -> bool:
    """Whether a file reads as values 0..255, to within rounding."""
    return bool(np.abs(read_image(path).pixels - expected).max() <= within)


def between_percentiles(stored: np.ndarray, valid: np.ndarray) -> np.ndarray:
    low, high = np.percentile(valid, [0.5, 99.5])
    return np.clip((stored - low) / (high - low), 0, 1) * 255


def lut(*values: int) -> dict[str, Any]:
    """A VOI LUT of four entries, from stored value 600 on, of sixteen bits."""
    table = Dataset()
    table.LUTDescriptor = [4, 600, 16]
    table.add_new("LUTData", "OW", (np.array(values, np.uint16) * 257).tobytes() if values else None)
    return {"VOILUTSequence": Sequence([table])}


def test_voi_lut_table(tmp_path: Path) -> None:
    pixels = read_image(write(tmp_path / "a.dcm", **lut(0, 50, 100, 255))).pixels.ravel()
    assert (pixels[:601] == 0).all()
    assert pixels[600:604].tolist() == [0, 50, 100, 255]
    assert (pixels[603:] == 255).all()


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 500, "WindowWidth": 400}])
def test_monochrome1_is_inverted(tmp_path: Path, window: dict[str, int]) -> None:
    plain = read_image(write(tmp_path / "a.dcm", **window)).pixels
    inverted = read_image(write(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **window))
    assert (inverted.pixels == 255 - plain).all()


def test_spacing(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.dcm")).spacing_mm is None
    assert read_image(write(tmp_path / "d.dcm", PixelSpacing=[0.2, float("inf")])).spacing_mm is None
    assert read_image(write(tmp_path / "b.dcm", ImagerPixelSpacing=[0.2, 0.1])).spacing_mm == (0.2, 0.1)
    both = write(tmp_path / "c.dcm", ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.4, 0.3])
    assert read_image(both).spacing_mm == (0.4, 0.3)

    unknown = write(tmp_path / "e.dcm", ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0, 0])
    assert read_image(unknown).spacing_mm == (0.2, 0.1)


def item(**fields: Any) -> list[Dataset]:
    dataset = Dataset()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return [dataset]


@pytest.mark.parametrize("where", ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"])
def test_an_enhanced_object_is_read_as_a_classic_one(tmp_path: Path, where: str) -> None:
    spacing, rescale = {"PixelSpacing": [0.2, 0.3]}, {"RescaleSlope": 2, "RescaleIntercept": -1024}
    window = {"WindowCenter": 40, "WindowWidth": 400}
    classic = read_image(write(tmp_path / "a.dcm", **spacing, **rescale, **window))
    macros = {
        "PixelMeasuresSequence": item(**spacing),
        "PixelValueTransformationSequence": item(**rescale, RescaleType="HU"),
        "FrameVOILUTSequence": item(**window),
    }
    groups = {"PerFrameFunctionalGroupsSequence": item(), where: item(**macros)}
    path = write(tmp_path / "b.dcm", NumberOfFrames=1, **groups)
    enhanced = read_image(path)
    assert (enhanced.pixels == classic.pixels).all()
    assert enhanced.spacing_mm == classic.spacing_mm == (0.2, 0.3)
    change(path, lambda dataset: setattr(dataset, "PixelSpacing", [0.5, 0.5]))
    assert read_image(path).spacing_mm == (0.5, 0.5)  # the top level wins


def test_recognised_by_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=500, WindowWidth=400)
    renamed = tmp_path / "a"
    renamed.write_bytes(path.read_bytes())
    assert (read_image(renamed).pixels == read_image(path).pixels).all()


def refused(path: Path) -> str:
    """What is said of a file in the threads that decode cases, where pydicom's warnings are no errors."""
    (what,) = for_each([path], refusal)
    return what


COLOURS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL"])
def test_colour_becomes_grey_by_its_luma_with_a_remark(tmp_path: Path, interpretation: str) -> None:
    colours = Image.fromarray(COLOURS)
    stored = np.asarray(colours if interpretation == "RGB" else colours.convert("YCbCr"))
    path = write(tmp_path / "a.dcm", stored, PhotometricInterpretation=interpretation, **COLOUR)
    picture = read_image(path)
    # ITU-R 601: 0.299, 0.587 and 0.114 of red, green and blue; YCbCr rounds twice
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(picture.pixels - luma).max() <= (1 if interpretation == "RGB" else 2)
    assert picture.remarks == (
        "is a colour picture, of which the luma is taken: see that it is a radiograph.",
    )


EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
COLOUR = {**EIGHT_BITS, "SamplesPerPixel": 3, "PlanarConfiguration": 0, "Rows": 30, "Columns": 40}
REFUSED = [
    ({"PixelData": VALUES.tobytes() * 2, "NumberOfFrames": 2}, "holds 2 frames"),
    (
        {"PhotometricInterpretation": "RGB"},
        "has photometric interpretation RGB with 12 bits; accepted are MONOCHROME1, MONOCHROME2, and RGB, "
        "YBR_FULL, YBR_FULL_422 with 8 bits.",
    ),
    (
        {"PixelData": COLOURS.tobytes(), "PhotometricInterpretation": "PALETTE COLOR", **COLOUR},
        "has photometric interpretation PALETTE COLOR with 8 bits",
    ),
    (
        {"PixelData": COLOURS.tobytes(), **COLOUR},
        "has pixel data of shape 30x40x3; a case is one grey frame. Export it again.",
    ),
    (
        {"PixelData": VALUES.tobytes() * 3},
        "has pixel data of shape 3x30x40; a case is one grey frame. Export it again.",
    ),
    ({"Rows": 65_535, "Columns": 65_535}, "is 65535x65535 pixels; up to 200,000,000 pixels are accepted."),
    ({"Rows": 0}, "is 40x0 pixels"),
    (
        {"RescaleSlope": 1e308, "RescaleIntercept": 0},
        "cannot be read as DICOM: its rescale slope and intercept give values that are no numbers. Export",
    ),
    (
        {"WindowCenter": 1e300, "WindowWidth": 2},
        "cannot be read as DICOM: its window of 2 around 1e+300",
    ),
    (lut(), "cannot be read as DICOM: its VOI LUT is empty. Export it again."),
    ({"PixelData": b"\0" * 100}, "cannot be read as DICOM"),
]


@pytest.mark.parametrize(("fields", "what"), REFUSED)
def test_refused(tmp_path: Path, fields: dict[str, Any], what: str) -> None:
    assert refused(write(tmp_path / "a.dcm", **fields)).startswith(what)


def change(path: Path, alter: Callable[[Dataset], object]) -> Path:
    """Alters a file's data set."""
    dataset = dcmread(path)
    alter(dataset)
    dataset.save_as(path)
    return path


def test_refused_without_pixels(tmp_path: Path) -> None:
    path = change(write(tmp_path / "a.dcm"), lambda dataset: delattr(dataset, "PixelData"))
    assert "without pixels" in refused(path)


def padded(low: int, high: int, *, kind: type = np.uint16) -> np.ndarray:
    """Values from 1000 to 2199, and below them five rows from `low` to `high`."""
    stored = (VALUES.astype(np.int32) + 1000).astype(kind)
    stored[:5] = np.linspace(low, high, 200).astype(kind).reshape(5, 40)
    return stored


SIGNED, RANGE = VALUES.astype(np.int16) - 600, padded(0, 99)
WIDE = np.arange(1_000_000, dtype=np.uint16).reshape(1000, 1000)
SHOWN = {
    "plain": (VALUES, {"WindowCenter": 500, "WindowWidth": 400}, linear_window(VALUES, 500, 400)),
    "first": (
        VALUES,
        {"WindowCenter": [500, 900], "WindowWidth": [400, 100]},
        linear_window(VALUES, 500, 400),
    ),
    "rescaled": (
        VALUES,
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 800},
        linear_window(2.0 * VALUES - 1000, 0, 800),
    ),
    "sigmoid": (
        VALUES,
        {"WindowCenter": 600, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"},
        255 / (1 + np.exp(-4 * (VALUES - 600.0) / 400)),
    ),
    "signed": (SIGNED, {"WindowCenter": -100, "WindowWidth": 300}, linear_window(SIGNED, -100, 300)),
    "large": (
        WIDE,
        {"WindowCenter": 30_000, "WindowWidth": 40_000, "BitsStored": 16, "HighBit": 15},
        linear_window(WIDE, 30_000, 40_000),
    ),
    "padding": (
        padded(0, 0),
        {"PixelPaddingValue": 0},
        between_percentiles(padded(0, 0), padded(0, 0)[5:]),
    ),
    "range": (
        RANGE,
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 99},
        between_percentiles(RANGE, RANGE[5:]),
    ),
    "range from above": (
        RANGE,
        {"PixelPaddingValue": 99, "PixelPaddingRangeLimit": 0},
        between_percentiles(RANGE, RANGE[5:]),
    ),
}


@pytest.mark.parametrize(("stored", "fields", "shown"), SHOWN.values(), ids=SHOWN)
def test_grey_levels(tmp_path: Path, stored: np.ndarray, fields: dict[str, Any], shown: np.ndarray) -> None:
    path = write(tmp_path / "a.dcm", stored, **fields)
    assert is_near(path, shown)
    assert has_padding_range(path, path.read_bytes()) == ("PixelPaddingRangeLimit" in fields)


def test_signed_padding_that_is_declared_unsigned_is_left_out(tmp_path: Path) -> None:
    stored = padded(-2000, -2000, kind=np.int16)
    path = write(tmp_path / "a.dcm", stored, BitsStored=16, HighBit=15)
    change(path, lambda dataset: dataset.add_new("PixelPaddingValue", "US", 63536))
    assert has_padding_range(path, path.read_bytes())
    assert is_near(path, between_percentiles(stored, stored[5:]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"PixelPaddingValue": 0},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 0},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9, "WindowCenter": 500, "WindowWidth": 400},
    ],
)
def test_other_files_keep_their_grey_levels_and_ids(tmp_path: Path, fields: dict[str, int]) -> None:
    path = write(tmp_path / "a.dcm", **fields)
    assert has_padding_range(path, path.read_bytes()) is False


def test_a_header_that_cannot_be_parsed_tells_nothing_about_padding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PixelPaddingValue=0)
    change(path, lambda dataset: delattr(dataset, "PixelRepresentation"))
    assert has_padding_range(path, path.read_bytes()) is None
    assert has_padding_range(path, b"no DICOM" * 40) is None


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        (
            {"WindowCenter": 500, "WindowWidth": 5},
            "its window of 5 around 500 leaves 6 of 256 grey levels to 1,200 different values. Correct it in "
            "the file, or remove it: the range of its values is then shown.",
        ),
        ({"WindowCenter": 9000, "WindowWidth": 400}, "its window of 400 around 9000 leaves 1 of 256 grey le"),
        ({"WindowCenter": 1150, "WindowWidth": 100}, "its window of 100 around 1150 makes 92% of the pixels"),
        (
            {"RescaleSlope": 0, "RescaleIntercept": 5},
            "its rescale slope or modality LUT leaves 1 of 256 grey levels to 1,200 different values.",
        ),
        ({"WindowCenter": 600, "WindowWidth": 1200}, None),
        ({"WindowCenter": 600, "WindowWidth": 300}, None),
        ({"RescaleSlope": -1, "RescaleIntercept": 1200}, None),
        ({}, None),
    ],
)
def test_contrast_that_a_window_takes_is_reported(
    tmp_path: Path, photometric: str, fields: dict[str, Any], remark: str | None
) -> None:
    picture = read_image(write(tmp_path / "a.dcm", PhotometricInterpretation=photometric, **fields))
    assert len(picture.remarks) == (remark is not None)
    assert "".join(picture.remarks).startswith(remark or "")


def test_contrast_that_undeclared_padding_takes_is_reported(tmp_path: Path) -> None:
    stored = padded(65_535, 65_535)
    bits = {"BitsStored": 16, "HighBit": 15}
    (remark,) = read_image(write(tmp_path / "a.dcm", stored, **bits)).remarks
    assert "leaves 6 of 256 grey levels to 1,001 different values. Declare padding in the file (" in remark
    assert read_image(write(tmp_path / "b.dcm", stored, PixelPaddingValue=65_535, **bits)).remarks == ()


def peak_bytes(path: Path, what: str) -> int:
    """The most memory that refusing a file takes."""
    tracemalloc.start()
    assert what in refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_large_values_are_read_after_the_header_was_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "b.dcm", WIDE, PhotometricInterpretation="RGB")
    assert peak_bytes(path, "photometric") < 1.5 * WIDE.nbytes  # the bytes of the file, and no pixels


def test_refused_deflated_before_it_is_unpacked(tmp_path: Path) -> None:
    dataset = dcmread(write(tmp_path / "a.dcm"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows = dataset.Columns = 4000
    dataset.PixelData = bytes(2 * 4000 * 4000)
    dataset.save_as(tmp_path / "b.dcm")
    del dataset
    assert (tmp_path / "b.dcm").stat().st_size < 100_000
    what = "is stored deflated; store it as Explicit VR Little Endian"
    assert peak_bytes(tmp_path / "b.dcm", what) < 1_000_000


def test_sequences_without_end_are_refused(tmp_path: Path) -> None:
    start = write(tmp_path / "a.dcm").read_bytes()
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    head = start[: start.index(b"\x28\x00\x02\x00US")]
    (tmp_path / "b.dcm").write_bytes(head + item * 5000)
    assert refused(tmp_path / "b.dcm").startswith(
        ("cannot be read as DICOM: ", "is a DICOM file without pixels")
    )


def test_refused_name_without_content(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("nothing")
    assert "no DICOM file although its name says so" in refused(tmp_path / "a.dcm")
