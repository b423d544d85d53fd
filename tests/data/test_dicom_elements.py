"""DICOM headers: bits that BitsStored leaves out, blank and missing elements, negative slopes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from tests.data.test_dicom import VALUES, change, is_near, linear_window, refused, write
from xferlab.data.decode import read_image

WINDOW = {"WindowCenter": 500, "WindowWidth": 400}
SIGNED = VALUES.astype(np.int16) - 600
ABOVE = (
    "has pixel values of 11 bits, and its BitsStored is 10. Set BitsStored and HighBit to what its grey"
    " values use; or clear the bits above, if these are an overlay."
)
LEFT_ALIGNED = (
    "stores its 12 bits left-aligned: its HighBit is 15. Shift its pixel values right by 4 bits, and set"
    " HighBit to 11."
)


def packed(path: Path) -> Path:
    """Compresses a file by run lengths, which keep all bits."""
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    ("stored", "fields", "what"),
    [
        (VALUES, {"BitsStored": 10, "HighBit": 9}, ABOVE),
        (VALUES << 4, {"HighBit": 15}, LEFT_ALIGNED),
        (VALUES << 4, {}, "has pixel values of 15 bits, and its BitsStored is 12."),
        (SIGNED, {"BitsStored": 9, "HighBit": 8}, "has pixel values of 16 bits, and its BitsStored is 9."),
    ],
)
def test_grey_values_that_would_wrap_around_are_refused(
    tmp_path: Path, stored: np.ndarray, fields: dict[str, int], what: str, is_packed: bool
) -> None:
    path = write(tmp_path / "a.dcm", stored, **fields)
    assert refused(packed(path) if is_packed else path).startswith(what)


def test_right_aligned_values_are_read_whatever_the_high_bit_says(tmp_path: Path) -> None:
    assert is_near(write(tmp_path / "a.dcm", HighBit=15, **WINDOW), linear_window(VALUES, 500, 400))


def test_an_overlay_above_the_grey_values_is_left_out(tmp_path: Path) -> None:
    stored = VALUES | np.uint16(1 << 13)
    path = write(tmp_path / "a.dcm", stored, **WINDOW)
    assert refused(path).startswith("has pixel values of 14 bits, and its BitsStored is 12.")
    change(path, lambda dataset: dataset.add_new((0x6002, 0x0102), "US", 13))
    assert is_near(path, linear_window(VALUES, 500, 400))


@pytest.mark.parametrize("kept", [0xFFFF, 0x0FFF])
def test_a_sign_need_not_fill_the_bits_above(tmp_path: Path, kept: int) -> None:
    stored = (SIGNED.view(np.uint16) & kept).view(np.int16)
    path = write(tmp_path / "a.dcm", stored, WindowCenter=-100, WindowWidth=300)
    assert is_near(path, linear_window(SIGNED, -100, 300))


REVERSED = 4095.0 - VALUES
"""Above 2895, since the stored values end at 1199."""


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ("LINEAR", linear_window(REVERSED, 3500, 400)),
        ("LINEAR_EXACT", np.clip((REVERSED - 3500) / 400 + 0.5, 0, 1) * 255),  # PS3.3 C.11.2.1.3.2
        ("SIGMOID", 255 / (1 + np.exp(-4 * (REVERSED - 3500) / 400))),  # PS3.3 C.11.2.1.3.1
    ],
)
def test_a_window_after_a_negative_slope(
    tmp_path: Path, function: str, shown: np.ndarray, photometric: str
) -> None:
    rescale = {"RescaleSlope": -1, "RescaleIntercept": 4095, "VOILUTFunction": function}
    window = {"WindowCenter": 3500, "WindowWidth": 400, "PhotometricInterpretation": photometric}
    path = write(tmp_path / "a.dcm", **rescale, **window)
    assert is_near(path, 255 - shown if photometric == "MONOCHROME1" else shown)


def test_a_slope_of_zero_is_blamed_for_what_its_window_does_not_show(tmp_path: Path) -> None:
    what = refused(write(tmp_path / "a.dcm", RescaleSlope=0, RescaleIntercept=5, **WINDOW))
    assert "its window of 400 around 500 shows nothing, because its rescale slope is 0" in what


@pytest.mark.parametrize(("slope", "intercept"), [(-1, None), (None, -1000)])
def test_half_a_rescale_is_refused(tmp_path: Path, slope: int | None, intercept: int | None) -> None:
    what = refused(write(tmp_path / "a.dcm", RescaleSlope=slope, RescaleIntercept=intercept))
    names = ("RescaleSlope", "RescaleIntercept") if slope else ("RescaleIntercept", "RescaleSlope")
    assert what == f"has a {names[0]} and no {names[1]}. Add the {names[1]}."


def with_raw(path: Path, name: str, kind: str, value: bytes) -> Path:
    """Puts an element of any bytes into a file."""
    tag = Tag(name)
    element = RawDataElement(tag, kind, len(value), value, 0, False, True)
    return change(path, lambda dataset: dataset._dict.update({tag: element}))


NEUTRAL = {"RescaleSlope": 1, "RescaleIntercept": 0, **WINDOW}


@pytest.mark.parametrize("blank", [b"", b"  "])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("VOILUTFunction", "CS"),
        ("RescaleSlope", "DS"),
        ("RescaleIntercept", "DS"),
        ("NumberOfFrames", "IS"),
        ("PixelSpacing", "DS"),
        ("PresentationLUTShape", "CS"),
    ],
)
def test_blank_elements_count_as_absent(tmp_path: Path, name: str, kind: str, blank: bytes) -> None:
    path = with_raw(write(tmp_path / "a.dcm", **NEUTRAL), name, kind, blank)
    assert is_near(path, linear_window(VALUES, 500, 400))
    assert read_image(path).spacing_mm is None


def test_a_blank_window_counts_as_absent(tmp_path: Path) -> None:
    plain = read_image(write(tmp_path / "a.dcm"))
    path = with_raw(write(tmp_path / "b.dcm", **WINDOW), "WindowWidth", "DS", b" ")
    assert (read_image(path).pixels == plain.pixels).all()


def test_one_number_is_no_spacing(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.dcm", ImagerPixelSpacing=[0.2])).spacing_mm is None


@pytest.mark.parametrize(
    ("name", "kind", "value", "what"),
    [
        ("RescaleSlope", "DS", b"1,5 ", "its RescaleSlope is 1,5, which is no number"),
        ("RescaleSlope", "DS", b"1\\2 ", "its RescaleSlope is [1, 2]; one number is expected"),
        ("WindowCenter", "DS", b"x ", "its WindowCenter is x, which is no number"),
        ("WindowCenter", "DS", b"\\500", "its WindowCenter is ['', 500], which is no number"),
        ("PixelSpacing", "DS", b"x\\y ", "its PixelSpacing is ['x', 'y'], which is no number"),
        ("NumberOfFrames", "IS", b"1\\2 ", "its NumberOfFrames is [1, 2]; one number is expected"),
        ("VOILUTFunction", "CS", b"LINEAR\\SIGMOID ", "its VOILUTFunction has several values"),
        ("Rows", "US", b"\x1e\0\x1e\0", "its Rows is [30, 30]; one number is expected"),
    ],
)
def test_odd_values_are_named(tmp_path: Path, name: str, kind: str, value: bytes, what: str) -> None:
    path = with_raw(write(tmp_path / "a.dcm", **NEUTRAL), name, kind, value)
    assert refused(path) == f"cannot be read as DICOM: {what}. Export it again."


@pytest.mark.parametrize(
    "name",
    [
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
    ],
)
def test_what_a_header_must_say_is_named(tmp_path: Path, name: str) -> None:
    what = f"does not say how its pixels are stored: it lacks {name}. Export it again."
    path = write(tmp_path / "a.dcm", **{name: None})
    assert refused(path) == what
    assert refused(change(path, lambda dataset: delattr(dataset, name))) == what


def test_blank_pixels_are_no_pixels(tmp_path: Path) -> None:
    assert refused(write(tmp_path / "a.dcm", PixelData=b"")) == "is a DICOM file without pixels."


@pytest.mark.parametrize(
    ("name", "descriptor", "what"),
    [
        ("VOILUTSequence", None, "its VOI LUT is empty"),
        ("VOILUTSequence", [99, 0, 16], "its VOI LUT is damaged: "),
        ("ModalityLUTSequence", None, "its modality LUT is damaged: "),
        ("ModalityLUTSequence", [99, 0, 16], "its modality LUT is damaged: "),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, name: str, descriptor: list[int] | None, what: str) -> None:
    table = Dataset()
    if descriptor:
        table.LUTDescriptor = descriptor
        table.add_new("LUTData", "OW", b"12")
    assert refused(write(tmp_path / "a.dcm", **{name: Sequence([table])})).startswith(
        f"cannot be read as DICOM: {what}"
    )
