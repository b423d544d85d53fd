"""DICOM transfer syntaxes: what every installation decodes, what the extra adds, files without a header."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2KLossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    generate_uid,
)

from tests.data.test_dicom import EIGHT_BITS, VALUES, refused, write
from xferlab.data.decode import is_dicom, read_image, stretch


def compressed(path: Path, frame: bytes, syntax: str, stored: np.ndarray = VALUES, **fields: Any) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["xferlab"])
    return write(path, stored, file_meta=meta, PixelData=encapsulate([frame]), **fields)


def without_plugins(monkeypatch: pytest.MonkeyPatch, syntax: str) -> None:
    """Hides the optional packages, as if they were not installed."""
    decoder = get_decoder(syntax)
    hidden = dict.fromkeys(decoder.available_plugins, ("gdcm>=3",))
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {**decoder._unavailable, **hidden})


def test_compression_without_a_codec_names_the_extra_and_no_gpl_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_plugins(monkeypatch, JPEGLosslessSV1)
    what = refused(compressed(tmp_path / "a.dcm", b"\xff\xd8\xff\xd9", JPEGLosslessSV1))
    assert what.startswith("is compressed as JPEG Lossless")
    assert what.endswith(
        "(1.2.840.10008.1.2.4.70), which no installed package decodes. `pip install 'xferlab[dicom]'`, or "
        "store the file uncompressed."
    )
    assert "libjpeg" not in what


def test_compression_that_the_extra_does_not_decode_is_not_promised(tmp_path: Path) -> None:
    what = refused(compressed(tmp_path / "a.dcm", b"\xff\x4f", HTJ2KLossless))
    assert what.endswith("which no installed package decodes. Store the file uncompressed.")


def recoded(path: Path, syntax: int) -> Path:
    """Returns the file in another transfer syntax of GDCM."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    target = path.with_name(f"{syntax}-{path.name}")
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target


@pytest.mark.parametrize(
    ("syntax", "uid"),
    [
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, JPEGLosslessSV1),
        (gdcm.TransferSyntax.JPEGLosslessProcess14, JPEGLossless),
        (gdcm.TransferSyntax.JPEGLSLossless, JPEGLSLossless),
    ],
)
def test_lossless_jpeg_equals_the_uncompressed_file(tmp_path: Path, syntax: int, uid: str) -> None:
    plain = write(tmp_path / "a.dcm", VALUES.astype(np.int16) - 300, WindowCenter=100, WindowWidth=400)
    lossless = recoded(plain, syntax)
    assert dcmread(lossless).file_meta.TransferSyntaxUID == uid
    assert (read_image(lossless).pixels == read_image(plain).pixels).all()


def test_damaged_compressed_pixels_are_not_blamed_on_a_package(tmp_path: Path) -> None:
    what = refused(compressed(tmp_path / "a.dcm", b"\xff\xd8\xff\xd9", JPEGLosslessSV1))
    assert ", and cannot be decoded: " in what
    assert "pip" not in what


def test_an_optional_package_changes_no_pixel_that_pillow_reads(tmp_path: Path) -> None:
    assert {"gdcm", "pillow"} <= set(get_decoder(JPEGBaseline8Bit).available_plugins)
    noise, jpeg = np.random.default_rng(0).integers(0, 256, (64, 48), dtype=np.uint8), io.BytesIO()
    Image.fromarray(noise).save(jpeg, "JPEG", quality=50)
    path = compressed(tmp_path / "a.dcm", jpeg.getvalue(), JPEGBaseline8Bit, noise, **EIGHT_BITS)
    assert (read_image(path).pixels == stretch(np.asarray(Image.open(jpeg)))).all()


@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_a_file_without_preamble_is_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "b.dcm", WindowCenter=500, WindowWidth=400)
    (tmp_path / name).write_bytes(path.read_bytes()[132:])
    assert is_dicom(tmp_path / name)
    assert (read_image(tmp_path / name).pixels == read_image(path).pixels).all()


@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_without_file_meta_information_is_read(tmp_path: Path, implicit: bool) -> None:
    path = write(tmp_path / "a.dcm", WindowCenter=500, WindowWidth=400, Modality="CR", SOPClassUID="1.2.3")
    bare = Dataset()
    bare.update(dcmread(path))
    bare.save_as(tmp_path / "b", implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert (read_image(tmp_path / "b").pixels == read_image(path).pixels).all()


def test_compressed_pixels_without_file_meta_information_are_refused(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.dcm", b"\xff\xd8\xff\xd9", JPEGLosslessSV1, SOPClassUID="1.2.3")
    content = path.read_bytes()
    (tmp_path / "b.dcm").write_bytes(content[content.index(b"\x08\0\x16\0UI") :])
    what = refused(tmp_path / "b.dcm")
    assert what.startswith("lacks the file meta information, which says how its pixels are compressed.")
