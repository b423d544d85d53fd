"""Images that would fill the memory, run a program, or be read as something that they are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import SIGNATURE, chunk, png, rows, tiff
from xferlab.data.decode import MAX_PIXELS, read_image, read_labels
from xferlab.errors import DataError


def refusal(path: Path, data: bytes, read: object = read_image) -> str:
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)  # type: ignore[operator]
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    return problem.what


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(50_000, 50_000), "has 2,500,000,000 pixels"),
        (png(2**31 - 1, 2**31 - 1), "has 4,611,686,014,132,420,609 pixels"),
        (png(20_000, 10_001), "is 20000x10001 pixels"),
        (tiff(60_000, 60_000, b"\0" * 64), "has 3,600,000,000 pixels"),
        (tiff(4_000_000_000, 4_000_000_000, b"\0" * 64), "has 16,000,000,000,000,000,000 pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_enormous_images_are_refused_by_their_header(tmp_path: Path, data: bytes, size: str) -> None:
    assert refusal(tmp_path / "a.png", data) == f"{size}; up to {MAX_PIXELS:,} pixels are accepted."


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_text_that_unpacks_without_end_is_refused(tmp_path: Path, kind: bytes) -> None:
    whole = png(1, 1, packed=zlib.compress(b"\0\7"))
    start = len(SIGNATURE) + 25
    packed = zlib.compressobj(9)
    text = b"".join(packed.compress(bytes(1 << 20)) for _ in range(64)) + packed.flush()
    assert len(text) < 100_000
    what = refusal(tmp_path / "a.png", whole[:start] + chunk(kind, b"a\0\0" + text) + whole[start:])
    assert "cannot be read: Decompressed data too large" in what


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png", name)
    assert "is no PNG, JPEG, TIFF, BMP or DICOM file" in refusal(
        tmp_path / "a.png", (tmp_path / "a.png").read_bytes()
    )


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert "is no PNG, JPEG, TIFF, BMP or DICOM file" in refusal(tmp_path / "a.jpg", script)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize(
    "data",
    [
        png(2, 2, bits=16, colour=2, packed=rows(2, b"\x00\xff" * 6)),
        png(2, 2, bits=16, colour=4, packed=rows(2, b"\x00\xff" * 4)),
        png(2, 2, bits=16, colour=6, packed=rows(2, b"\x00\xff" * 8)),
        tiff(2, 2, b"\xff\x00" * 12, bits=16, channels=3),
    ],
)
def test_sixteen_bit_channels_are_refused_not_halved(tmp_path: Path, data: bytes, read: object) -> None:
    assert "has 16 bits in each of several channels" in refusal(tmp_path / "a.png", data, read)


def test_signs_are_read_as_they_are_meant(tmp_path: Path) -> None:
    assert "has signed 8-bit pixels" in refusal(tmp_path / "a.tif", tiff(2, 1, b"\x01\xff", sample_format=2))
    wide = b"\x01\x00\x00\x00\xff\xff\xff\xff"
    assert "has values above 2,147,483,647" in refusal(tmp_path / "b.tif", tiff(2, 1, wide, bits=32))
    (tmp_path / "c.tif").write_bytes(tiff(2, 1, wide, bits=32, sample_format=2))
    assert read_image(tmp_path / "c.tif").pixels.tolist() == [[255, 0]]  # 1 and -1
    (tmp_path / "d.tif").write_bytes(tiff(2, 1, b"\x01\x00\xff\xff", bits=16, sample_format=2))
    assert read_labels(tmp_path / "d.tif").values.tolist() == [[1, -1]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_spread(tmp_path: Path, bits: int) -> None:
    (tmp_path / "a.png").write_bytes(png(8 // bits, 1, bits=bits, packed=zlib.compress(b"\0\x1b")))
    levels = [0x1B >> shift & (1 << bits) - 1 for shift in range(8 - bits, -1, -bits)]
    expected = [[round(level * 255 / ((1 << bits) - 1)) for level in levels]]
    assert read_image(tmp_path / "a.png").pixels.tolist() == expected
    assert read_labels(tmp_path / "a.png").values.tolist() == expected


def test_jpeg_masks_are_marked(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 255).save(tmp_path / "m.png", "JPEG")
    assert read_labels(tmp_path / "m.png").lossy
    Image.new("L", (8, 8), 255).save(tmp_path / "n.jpg", "PNG")
    assert not read_labels(tmp_path / "n.jpg").lossy


PEAK = """
import json, resource, sys
from pathlib import Path
from xferlab.data.decode import read_image
from xferlab.errors import DataError
found = {}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    found["size"] = read_image(Path(sys.argv[1])).pixels.size
except DataError as error:
    found["error"] = str(error)
found["kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "bytes_a_pixel"), [(8, 4), (16, 12)])
def test_largest_image_that_is_accepted_takes_a_few_bytes_a_pixel(
    tmp_path: Path, bits: int, bytes_a_pixel: int
) -> None:
    side = 14_000
    path = tmp_path / "a.png"
    path.write_bytes(png(side, side, bits=bits, packed=rows(side, bytes(side * bits // 8))))
    assert path.stat().st_size < 500_000
    command = [sys.executable, "-c", PEAK, str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    print(f"{path.stat().st_size:,} bytes, {side * side:,} pixels, {found['kib'] / 1024:.0f} MiB")
    assert found["size"] == side * side
    assert found["kib"] * 1024 < bytes_a_pixel * side * side
