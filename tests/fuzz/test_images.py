"""Whatever the bytes of an image are: pixels that can be used, or a message that names the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests.data.pictures import tiff
from tests.fuzz.mutations import feed, mended, mutated
from xferlab.data.decode import MAX_PIXELS, read_colour, read_image, read_labels
from xferlab.errors import DataError
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
    return [*tiffs, *jpegs, saved(RAMP, "BMP"), saved(RAMP.convert("1"), "BMP")]


IMAGES = st.one_of(
    mutated(pngs()), mutated(pngs()).map(mended), mutated(others()), mutated(others()), st.binary(max_size=64)
)


def pixels_of(path: Path) -> list[np.ndarray | DataError]:
    """What each reader gives."""
    given: list[np.ndarray | DataError] = []
    for read in (lambda p: read_image(p).pixels, lambda p: read_labels(p).values, read_colour):
        try:
            given.append(read(path))
        except DataError as error:
            given.append(error)
    return given


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_images(tmp_path: Path, name: str, examples: int) -> None:
    path = tmp_path / name

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        found = for_each([path], pixels_of)[0]
        for pixels, ndim, kinds in zip(found, (2, 2, 3), ("u", "iu", "u"), strict=True):
            if isinstance(pixels, DataError):
                assert {problem.where for problem in pixels.problems} == {str(path)}
                continue
            assert (pixels.ndim, pixels.dtype.kind in kinds) == (ndim, True)
            assert 0 < pixels.size <= 3 * MAX_PIXELS
        return not isinstance(found[0], DataError)

    tally = feed(IMAGES, read, examples=examples)
    assert 0 < tally.refused < tally.inputs or name == "a.dcm" or examples < 1000
