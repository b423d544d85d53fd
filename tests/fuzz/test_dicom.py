"""Whatever the bytes of a DICOM file are: grey pixels, or a message that names the file."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from tests.data.test_dicom import write
from tests.fuzz.mutations import feed, mutated
from xferlab.data.decode import read_image
from xferlab.errors import DataError, attempt
from xferlab.parallel import for_each

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
        (picture,) = for_each([path], partial(attempt, read_image))
        if isinstance(picture, DataError):
            assert {problem.where for problem in picture.problems} == {str(path)}
            return False
        assert (picture.pixels.ndim, picture.pixels.dtype) == (2, np.uint8)
        return True

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pydicom\b")
        bodies = [data[132:] for data in originals(tmp_path)]
    assert all(read(body) for body in bodies)
    feed(mutated(bodies, FIELDS), read, examples=examples)
