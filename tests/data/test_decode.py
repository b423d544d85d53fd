"""Formats: what a file shows is what is read; what is ambiguous, enormous or no image is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import refusal
from tests.data.pictures import SIGNATURE, chunk, png, rows, tiff
from xferlab.data.decode import MAX_PIXELS, read_colour, read_image, read_labels, stretch
from xferlab.errors import DataError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
LUMA = np.array([0.299, 0.587, 0.114])


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


SMOOTH = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(64, axis=0)
WIDE = np.random.default_rng(0).integers(900, 3000, (50, 40)).astype(np.uint16)
WIDE[0, 0] = 65_535  # one burnt-out pixel must not darken the rest
EVEN, SPOT = np.full((100, 100), 10, np.uint16), np.zeros((100, 100), np.uint16)
SPOT[5, 5] = 4000


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / (high - low), 0, 1) * 255


def exactly(name: str, image: Image.Image | np.ndarray, shown: np.ndarray) -> tuple[Any, ...]:
    return name, image, {}, shown, 0


GREY = Image.new("RGB", (16, 16), (200, 200, 200)).convert("CMYK")
SHOWN: list[tuple[Any, ...]] = [
    *[exactly(name, RAMP, RAMP) for name in ("a.png", "a.tif", "a.bmp")],
    *[
        exactly("a.png", Image.fromarray(RAMP).convert(mode), RAMP)
        for mode in ("L", "RGB", "RGBA", "P", "LA")
    ],
    exactly("a.png", Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(RAMP.T)]), RAMP),
    ("a.png", COLOURS, {}, COLOURS @ LUMA, 1),
    ("a.jpg", SMOOTH, {"quality": 95}, SMOOTH, 4),
    ("a.jpg", GREY, {"quality": 100}, np.full((16, 16), 200), 2),
    *[(name, WIDE, {}, stretched(WIDE), 0.501) for name in ("a.png", "a.tif")],
    ("a.png", np.minimum(WIDE, 4000) * 8 + 100, {}, stretched(np.minimum(WIDE, 4000)), 0.501),
    ("a.tif", WIDE, {"tiffinfo": {262: 0}}, 255 - stretched(WIDE), 0.501),
    exactly("a.png", EVEN, EVEN * 0),
    exactly("a.png", EVEN + SPOT, np.where(SPOT, 255, 0)),  # percentiles miss a small object
]


@pytest.mark.parametrize(("name", "image", "options", "shown", "within"), SHOWN)
def test_what_a_file_shows_is_read_under_any_name(
    tmp_path: Path, name: str, image: Any, options: dict[str, Any], shown: np.ndarray, within: float
) -> None:
    file = image if isinstance(image, Image.Image) else Image.fromarray(image)
    path = saved(tmp_path / name, file, **options).rename(tmp_path / "b.jpeg")
    picture = read_image(path)
    assert np.abs(picture.pixels.astype(float) - shown).max() <= within
    assert (picture.pixels.dtype, picture.spacing_mm, picture.turned) == (np.uint8, None, False)
    if file.mode in ("L", "RGB", "RGBA", "LA") and shown is RAMP:
        assert (read_labels(path).values == RAMP).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32])
def test_stretching_is_the_same_in_every_type(kind: type) -> None:
    values = np.random.default_rng(0).integers(-30_000 if kind != np.uint16 else 0, 32_000, (200, 7))
    assert (stretch(values.astype(kind)) == stretch(values.astype(np.float64))).all()
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    ends = np.array([[low, int(0.65 * high + 0.35 * low), high]], kind)  # differences do not fit the type
    assert (stretch(ends) == stretch(ends.astype(np.float64))).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_contrast_that_extreme_values_take_is_reported(tmp_path: Path, name: str) -> None:
    values = np.arange(1000, dtype=np.uint16).reshape(25, 40)
    assert read_image(saved(tmp_path / name, Image.fromarray(values))).remarks == ()
    values[0] = 65_535  # a burned-in marker
    (remark,) = read_image(saved(tmp_path / name, Image.fromarray(values))).remarks
    assert remark == (
        "the range of its values, which extreme ones widen, leaves 6 of 256 grey levels to 961 different "
        "values. Convert it to 8 bits with a window of your choice."
    )


def test_few_values_are_no_lost_contrast(tmp_path: Path) -> None:
    values = np.arange(9, dtype=np.uint16).repeat(9).reshape(9, 9) * 1000
    assert read_image(saved(tmp_path / "a.png", Image.fromarray(values))).remarks == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_masks_mean_what_they_show(tmp_path: Path, dtype: type) -> None:
    white = np.iinfo(dtype).max
    stored = np.full((8, 8), white, dtype)
    stored[2:4] = 0
    path = tmp_path / "a.tif"
    Image.fromarray(~stored if dtype is np.uint8 else stored).save(path, tiffinfo={262: 0})
    values = read_labels(path).values
    assert (values[2:4] == white).all()
    assert (values[4:] == 0).all()


ORIENTATIONS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}


def oriented(path: Path, orientation: int) -> np.ndarray:
    """Saves pixels that no orientation leaves as they are; returns them as stored."""
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:8, :8] = 200
    image = Image.fromarray(pixels)
    if path.suffix == ".tif":
        saved(path, image, tiffinfo={274: orientation})
        return pixels
    exif = image.getexif()
    exif[274] = orientation
    saved(path, image, exif=exif)
    return pixels


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_applied_to_images_and_masks(tmp_path: Path, name: str, orientation: int) -> None:
    expected = ORIENTATIONS[orientation](oriented(tmp_path / name, orientation))
    picture, labels = read_image(tmp_path / name), read_labels(tmp_path / name)
    assert picture.turned
    assert labels.turned
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).max() <= (3 if name == "a.jpg" else 0)
    assert (labels.values == picture.pixels).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_orientation_that_means_nothing_is_ignored(tmp_path: Path, name: str, orientation: int) -> None:
    expected = oriented(tmp_path / name, orientation)
    picture = read_image(tmp_path / name)
    assert not picture.turned
    assert np.abs(picture.pixels.astype(int) - expected).max() <= (3 if name == "a.jpg" else 0)


def test_colour_reader_gives_three_channels(tmp_path: Path) -> None:
    assert (read_colour(saved(tmp_path / "a.tif", Image.fromarray(COLOURS))) == COLOURS).all()
    grey = read_colour(saved(tmp_path / "b.tif", Image.fromarray(RAMP)))
    assert (grey == RAMP[..., None]).all()
    with pytest.raises(DataError, match=r"mode 'I;16'.*8-bit grey or colour is accepted"):
        read_colour(saved(tmp_path / "c.tif", Image.fromarray(RAMP.astype(np.uint16))))


def test_binary_and_wide_masks_keep_their_values(tmp_path: Path) -> None:
    bits = Image.fromarray((RAMP > 99).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(read_labels(saved(tmp_path / "m.png", bits)).values)) == {0, 255}
    labels = np.array([[0, 1], [255, 4000]], np.uint16)
    assert (read_labels(saved(tmp_path / "n.png", Image.fromarray(labels))).values == labels).all()


def test_refused_float_pixels_and_colour_masks(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.float32)))
    known = "floating point or unknown), whose range is not known; 8- and 16-bit integers are accepted. "
    assert f"{known}Convert it to 8 bits with a window of your choice." in refusal(path)
    assert f"{known}Save its label values as integers of 8 or 16 bits." in refusal(path, read_labels)
    assert "colour image" in refusal(saved(tmp_path / "m.png", Image.fromarray(COLOURS)), read_labels)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "MPO"])
def test_refused_several_frames(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP.T)]
    path = saved(tmp_path / "a.jpg", frames[0], format=kind, save_all=True, append_images=frames[1:])
    for read in (read_image, read_labels):
        assert refusal(path, read) == "holds 2 frames; a case is one frame. Save the frame you mean."


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_refused_truncated_file(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, Image.fromarray(np.tile(RAMP, (8, 8))))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read" in refusal(path)


def test_refused_other_content(tmp_path: Path) -> None:
    path, unknown = tmp_path / "a.png", f"{UNKNOWN} of a kind that can be read."
    assert "No such file" in refusal(path)
    path.write_text("<html>not found</html>")
    assert refusal(path) == unknown
    path.write_bytes(b"")
    assert refusal(path) == "is empty (0 bytes). Fetch it again."
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    content = saved(path, Image.fromarray(noise)).read_bytes()
    path.write_text(content.decode("utf-8", errors="replace"), encoding="utf-8")
    assert "copied as text" in refusal(path)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP))
    for module in ("decode", "pixels"):
        monkeypatch.setattr(f"xferlab.data.{module}.MAX_PIXELS", 255)
    assert "16x16 pixels" in refusal(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own refusal, beyond twice its limit
    assert refusal(path) == "has 256 pixels; up to 255 pixels are accepted."
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # its warning, where warnings are errors
    assert refusal(path) == "has 256 pixels; up to 255 pixels are accepted."


UNKNOWN = "is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file"


def limited(what: str) -> str:
    return f"{what}; up to {MAX_PIXELS:,} pixels are accepted."


def texted(kind: bytes) -> bytes:
    """A PNG with a text that unpacks to 64 MiB."""
    whole, packed = png(1, 1, packed=zlib.compress(b"\0\7")), zlib.compressobj(9)
    start = len(SIGNATURE) + 25
    text = b"".join(packed.compress(bytes(1 << 20)) for _ in range(64)) + packed.flush()
    assert len(text) < 100_000
    return whole[:start] + chunk(kind, b"a\0\0" + text) + whole[start:]


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, kind)
    return file.getvalue()


def wide_channels(channels: int, colour: int) -> bytes:
    return png(2, 2, bits=16, colour=colour, packed=rows(2, b"\x00\xff" * 2 * channels))


@pytest.mark.parametrize("read", [read_image, read_labels])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (png(50_000, 50_000), limited("has 2,500,000,000 pixels")),
        (png(2**31 - 1, 2**31 - 1), limited("has 4,611,686,014,132,420,609 pixels")),
        (png(20_000, 10_001), limited("is 20000x10001 pixels")),
        (tiff(60_000, 60_000, b"\0" * 64), limited("has 3,600,000,000 pixels")),
        (tiff(4_000_000_000, 4_000_000_000, b"\0" * 64), limited("has 16,000,000,000,000,000,000 pixels")),
        (texted(b"zTXt"), "cannot be read: Decompressed data too large"),
        (texted(b"iCCP"), "cannot be read: Decompressed data too large"),
        *[(encoded(kind), UNKNOWN) for kind in ("WEBP", "PPM", "ICO")],
        (wide_channels(3, 2), "has 16 bits in each of several channels"),
        (wide_channels(2, 4), "has 16 bits in each of several channels"),
        (wide_channels(4, 6), "has 16 bits in each of several channels"),
        (tiff(2, 2, b"\xff\x00" * 12, bits=16, channels=3), "has 16 bits in each of several channels"),
        (tiff(2, 1, b"\x01\xff", sample_format=2), "has signed 8-bit pixels"),
        (tiff(2, 1, b"\x01\x00\x00\x00\xff\xff\xff\xff", bits=32), "has values above 2,147,483,647"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_refused_whatever_their_name(tmp_path: Path, read: Any, data: bytes, what: str) -> None:
    assert refusal(tmp_path / "a.png", read, content=data).startswith(what)


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert UNKNOWN in refusal(tmp_path / "a.jpg", content=script)
    assert not (tmp_path / "ran").exists()


def test_signs_are_read_as_they_are_meant(tmp_path: Path) -> None:
    wide = b"\x01\x00\x00\x00\xff\xff\xff\xff"
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


@pytest.mark.parametrize(("name", "kind", "lossy"), [("m.png", "JPEG", True), ("n.jpg", "PNG", False)])
def test_the_content_tells_whether_a_mask_is_a_jpeg(
    tmp_path: Path, name: str, kind: str, lossy: bool
) -> None:
    Image.new("L", (8, 8), 255).save(tmp_path / name, kind)
    assert read_labels(tmp_path / name).lossy == lossy


@pytest.mark.parametrize("reader", [read_image, read_labels])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_in_its_transparency_alone_is_refused(
    tmp_path: Path, reader: Callable[[Path], object], mode: str, level: int
) -> None:
    image = Image.new(mode, RAMP.shape[::-1], level if mode == "LA" else (level, level, level))
    image.putalpha(Image.fromarray(RAMP))
    with pytest.raises(DataError, match="has one colour and is drawn in its transparency, which is not read"):
        reader(saved(tmp_path / "a.png", image))
    image.putalpha(7)
    reader(saved(tmp_path / "b.png", image))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(tiff(2, 1, bytes(8), bits=16, channels=2), "TIFF"), (png(0, 0), "PNG"), (b"\xff\xd8\xff", "JPEG")],
)
def test_a_file_that_begins_as_an_image_is_said_to(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=f"It begins as a {kind} file: it is cut off or damaged, or its pix"):
        read_image(tmp_path / "a.png")
