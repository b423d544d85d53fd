"""Whatever the bytes of an image are: pixels that can be used, or a message that names the file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from tests.data.pictures import tiff
from tests.data.test_dicom import write
from tests.data.test_nifti import write as write_nifti
from tests.fuzz.mutations import feed, mended, mutated
from xferlab.data.decode import MAX_PIXELS, read_colour, read_image, read_labels
from xferlab.errors import DataError, attempt
from xferlab.parallel import for_each

RAMP = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274], found[306] = orientation, "2020:01:01 00:00:00"
    return found


def pngs() -> list[bytes]:
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "x" * 40, zip=True)
    note.add_itxt("other", "é")
    wide = Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300)
    modes = [RAMP.convert(mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]
    plain = [saved(image, "PNG") for image in [*modes, wide]]
    return [*plain, saved(RAMP, "PNG", exif=exif(6), pnginfo=note, dpi=(90, 90))]


def others() -> list[bytes]:
    wide = Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300)
    kinds = ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"]
    tiffs = [saved(RAMP, "TIFF", compression=kind) for kind in kinds]
    tiffs += [saved(wide, "TIFF"), saved(RAMP, "TIFF", tiffinfo={274: 6}), saved(RAMP.convert("RGB"), "TIFF")]
    tiffs += [tiff(16, 12, bytes(range(192))), saved(RAMP, "TIFF", save_all=True, append_images=[RAMP])]
    modes = [RAMP.convert(mode) for mode in ("L", "RGB", "CMYK")]
    jpegs = [saved(image, "JPEG") for image in modes]
    jpegs += [saved(RAMP, "JPEG", progressive=True, exif=exif(8)), saved(RAMP, "JPEG", comment="x" * 30)]
    return [*tiffs, *jpegs, saved(RAMP, "BMP"), saved(RAMP.convert("1"), "BMP"), saved(RAMP, "GIF")]


IMAGES = st.one_of(
    mutated(pngs()), mutated(pngs()).map(mended), mutated(others()), mutated(others()), st.binary(max_size=64)
)


READERS = {
    "image": (lambda path: read_image(path).pixels, 2, "u"),
    "labels": (lambda path: read_labels(path).values, 2, "iu"),
    "colour": (read_colour, 3, "u"),
}


def accepted(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Returns what a reader makes of a file; None where it refuses it, and names it."""
    (result,) = for_each([path], partial(attempt, reader))
    if isinstance(result, DataError):
        assert {problem.where for problem in result.problems} == {str(path)}
        return None
    return result


def is_picture(path: Path) -> bool:
    picture = accepted(path, read_image)
    if picture is None:
        return False
    assert (picture.pixels.ndim, picture.pixels.dtype) == (2, np.uint8)
    return True


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
@pytest.mark.parametrize("reader", READERS)
def test_images(tmp_path: Path, name: str, reader: str, examples: int) -> None:
    path, (open_pixels, ndim, kinds) = tmp_path / name, READERS[reader]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        pixels = accepted(path, open_pixels)
        if pixels is None:
            return False
        assert (pixels.ndim, pixels.dtype.kind in kinds) == (ndim, True)
        assert 0 < pixels.size <= 3 * MAX_PIXELS
        return True

    feed(IMAGES, read, examples=examples, accepts=name == "a.png")


# --- DICOM -----------------------------------------------------------------------------------------------


SMALL = np.arange(48, dtype=np.uint16).reshape(6, 8)
FIELDS = [
    b"nan ",
    b"inf ",
    b"1e308 ",
    b"-1",
    b"0 ",
    b"\\\\",
    b"\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0",
    b"SQ",
    b"UN\0\0",
]


def originals(folder: Path) -> list[bytes]:
    table = Dataset()
    table.LUTDescriptor = [4, 10, 16]
    table.add_new("LUTData", "OW", np.arange(4, dtype=np.uint16).tobytes())
    window = {"WindowCenter": [20, 30], "WindowWidth": [10, 20], "RescaleSlope": 2, "RescaleIntercept": -10}
    luts = dict.fromkeys(("VOILUTSequence", "ModalityLUTSequence"), Sequence([table]))
    plain = write(folder / "a.dcm", SMALL, PixelSpacing=[0.2, 0.1], PixelPaddingValue=0)
    write(folder / "b.dcm", SMALL, **window)
    write(folder / "c.dcm", SMALL, **luts)
    write(folder / "d.dcm", SMALL.astype(np.int16), PhotometricInterpretation="MONOCHROME1")
    packed, implicit = dcmread(plain), dcmread(plain)
    packed.compress(RLELossless)
    packed.save_as(folder / "e.dcm")
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    implicit.save_as(folder / "f.dcm", implicit_vr=True, little_endian=True)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_dicom(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "x.dcm"

    def read(data: bytes) -> bool:
        path.write_bytes(bytes(128) + b"DICM" + data)
        return is_picture(path)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom\b")
        bodies = [data[132:] for data in originals(tmp_path)]
    assert all(read(body) for body in bodies)
    feed(mutated(bodies, FIELDS), read, examples=examples)


# --- NIfTI -----------------------------------------------------------------------------------------------


def test_nifti(tmp_path: Path, examples: int) -> None:
    path = tmp_path / "x.nii"
    kinds = (np.uint8, np.int16, np.float32)
    whole = [write_nifti(path, SMALL[..., None].astype(kind)).read_bytes() for kind in kinds]

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        return is_picture(path)

    assert all(read(data) for data in whole)
    feed(mutated(whole, FIELDS), read, examples=examples)
