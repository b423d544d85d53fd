"""DICOM: real files written by pydicom, against the standard's formulas by hand."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLosslessSV1, generate_uid

from xferlab.data.decode import read_image
from xferlab.data.parallel import for_each
from xferlab.errors import DataError, Problem

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


def test_window(tmp_path: Path) -> None:
    pixels = read_image(write(tmp_path / "a.dcm", WindowCenter=500, WindowWidth=400)).pixels
    assert np.abs(pixels - linear_window(VALUES, 500, 400)).max() <= 0.5 + 1e-9


def test_first_of_several_windows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=[500, 900], WindowWidth=[400, 100])
    assert np.abs(read_image(path).pixels - linear_window(VALUES, 500, 400)).max() <= 0.5 + 1e-9


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=800)
    expected = linear_window(2.0 * VALUES - 1000, 0, 800)
    assert np.abs(read_image(path).pixels - expected).max() <= 0.5 + 1e-9


def test_sigmoid_window(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=600, WindowWidth=400, VOILUTFunction="SIGMOID")
    expected = 255 / (1 + np.exp(-4 * (VALUES - 600.0) / 400))
    assert np.abs(read_image(path).pixels - expected).max() <= 0.5 + 1e-3


def test_voi_lut_table(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 600, 16]  # four entries, from stored value 600 on, sixteen bits
    table.add_new("LUTData", "OW", (np.array([0, 50, 100, 255], np.uint16) * 257).tobytes())
    pixels = read_image(write(tmp_path / "a.dcm", VOILUTSequence=Sequence([table]))).pixels.ravel()
    assert (pixels[:601] == 0).all()
    assert pixels[600:604].tolist() == [0, 50, 100, 255]
    assert (pixels[603:] == 255).all()


def test_without_a_window_percentiles_are_taken_without_padding(tmp_path: Path) -> None:
    stored = VALUES + 1000
    stored[:5] = 0
    pixels = read_image(write(tmp_path / "a.dcm", stored, PixelPaddingValue=0)).pixels
    low, high = np.percentile(stored[5:], [0.5, 99.5])
    assert np.abs(pixels - np.clip((stored - low) / (high - low), 0, 1) * 255).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 500, "WindowWidth": 400}])
def test_monochrome1_is_inverted(tmp_path: Path, window: dict[str, int]) -> None:
    plain = read_image(write(tmp_path / "a.dcm", **window)).pixels
    inverted = read_image(write(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **window))
    assert (inverted.pixels == 255 - plain).all()


def test_signed_values(tmp_path: Path) -> None:
    stored = VALUES.astype(np.int16) - 600
    pixels = read_image(write(tmp_path / "a.dcm", stored, WindowCenter=-100, WindowWidth=300)).pixels
    assert np.abs(pixels - linear_window(stored, -100, 300)).max() <= 0.5 + 1e-9


def test_spacing(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.dcm")).spacing_mm is None
    assert read_image(write(tmp_path / "d.dcm", PixelSpacing=[0.2, float("inf")])).spacing_mm is None
    assert read_image(write(tmp_path / "b.dcm", ImagerPixelSpacing=[0.2, 0.1])).spacing_mm == (0.2, 0.1)
    both = write(tmp_path / "c.dcm", ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.4, 0.3])
    assert read_image(both).spacing_mm == (0.4, 0.3)


def test_told_by_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=500, WindowWidth=400)
    renamed = tmp_path / "a"
    renamed.write_bytes(path.read_bytes())
    assert (read_image(renamed).pixels == read_image(path).pixels).all()


def problems_of(path: Path) -> tuple[Problem, ...]:
    """In the threads that decode cases, pydicom's warnings are no errors."""
    try:
        read_image(path)
    except DataError as error:
        return error.problems
    return ()


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    (problem,) = caught.value.problems
    return problem.what


def test_refused_several_frames(tmp_path: Path) -> None:
    assert "holds 2 frames" in refusal(
        write(tmp_path / "a.dcm", np.stack([VALUES, VALUES]), NumberOfFrames=2)
    )


def test_refused_colour(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PhotometricInterpretation="RGB")
    assert "photometric interpretation RGB; MONOCHROME1 and MONOCHROME2 are accepted" in refusal(path)


def test_refused_without_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm")
    dataset = dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert "without pixels" in refusal(path)


def test_compression_without_a_codec_names_it_and_what_to_install(tmp_path: Path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = JPEGLosslessSV1
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["xferlab"])
    path = write(tmp_path / "a.dcm", file_meta=meta, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))
    what = refusal(path)
    assert "JPEG Lossless" in what
    assert "1.2.840.10008.1.2.4.70" in what
    assert "pip install" in what
    assert "pylibjpeg" in what


def test_refused_more_pixels_than_the_header_tells(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PixelData=np.stack([VALUES, VALUES, VALUES]).tobytes())
    (problem,) = for_each([path], problems_of)[0]
    assert problem.what == "has pixel data of shape 3x30x40; a case is one grey frame. Export it again."


def test_refused_enormous_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", Rows=65_535, Columns=65_535)
    assert refusal(path) == "is 65535x65535 pixels; up to 200,000,000 pixels are accepted."
    assert "is 40x0 pixels" in refusal(write(tmp_path / "b.dcm", Rows=0))


def test_large_values_are_read_after_the_header_was_checked(tmp_path: Path) -> None:
    stored = np.arange(1_000_000, dtype=np.uint16).reshape(1000, 1000)
    path = write(
        tmp_path / "a.dcm", stored, WindowCenter=30_000, WindowWidth=40_000, BitsStored=16, HighBit=15
    )
    assert np.abs(read_image(path).pixels - linear_window(stored, 30_000, 40_000)).max() <= 0.5 + 1e-9
    write(tmp_path / "b.dcm", stored, PhotometricInterpretation="RGB")
    tracemalloc.start()
    assert "photometric" in refusal(tmp_path / "b.dcm")
    assert tracemalloc.get_traced_memory()[1] < stored.nbytes / 2
    tracemalloc.stop()


def test_refused_deflated_before_it_is_unpacked(tmp_path: Path) -> None:
    dataset = dcmread(write(tmp_path / "a.dcm"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows = dataset.Columns = 4000
    dataset.PixelData = bytes(2 * 4000 * 4000)
    dataset.save_as(tmp_path / "b.dcm")
    del dataset
    assert (tmp_path / "b.dcm").stat().st_size < 100_000
    tracemalloc.start()
    assert "is stored deflated; store it as Explicit VR Little Endian" in refusal(tmp_path / "b.dcm")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_rescale_that_gives_no_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", RescaleSlope=1e308, RescaleIntercept=0)
    (problem,) = for_each([path], problems_of)[0]
    assert "its rescale slope and intercept give values that are no numbers. Export it again." in problem.what


def test_windows_that_show_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=1e300, WindowWidth=2)
    (problem,) = for_each([path], problems_of)[0]
    assert "its window of 2 around 1e+300 shows nothing. Export it again." in problem.what


def test_empty_voi_lut_is_refused(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 600, 16]
    table.add_new("LUTData", "OW", None)
    path = write(tmp_path / "a.dcm", VOILUTSequence=Sequence([table]))
    (problem,) = for_each([path], problems_of)[0]
    assert problem.what == "cannot be read as DICOM: its VOI LUT is empty. Export it again."


def test_sequences_without_end_are_refused(tmp_path: Path) -> None:
    start = write(tmp_path / "a.dcm").read_bytes()
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    head = start[: start.index(b"\x28\x00\x02\x00US")]
    (tmp_path / "b.dcm").write_bytes(head + item * 5000)
    (problem,) = for_each([tmp_path / "b.dcm"], problems_of)[0]
    assert problem.what.startswith(("cannot be read as DICOM: ", "is a DICOM file without pixels"))


def test_refused_too_short_pixel_data(tmp_path: Path) -> None:
    assert "cannot be read as DICOM" in refusal(write(tmp_path / "a.dcm", PixelData=b"\0" * 100))


def test_refused_name_without_content(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("nothing")
    assert "no DICOM file although its name says so" in refusal(tmp_path / "a.dcm")
