"""Formats: what a file shows is what is read, whatever it is stored as; what is ambiguous is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xferlab.data.decode import read_colour, read_image, read_labels, stretch
from xferlab.errors import DataError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
LUMA = np.array([0.299, 0.587, 0.114])


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_eight_bit_grey_is_kept_as_it_is_under_any_name(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, Image.fromarray(RAMP)).rename(tmp_path / "a.jpeg")
    picture = read_image(path)
    assert (picture.pixels == RAMP).all()
    assert (picture.pixels.dtype, picture.spacing_mm, picture.turned) == (np.uint8, None, False)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_grey_survives_every_colour_mode(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP).convert(mode))
    assert (read_image(path).pixels == RAMP).all()
    assert mode == "P" or (read_labels(path).values == RAMP).all()


def test_colour_becomes_luma_and_alpha_is_ignored(tmp_path: Path) -> None:
    pixels = read_image(saved(tmp_path / "a.png", Image.fromarray(COLOURS))).pixels
    assert np.abs(pixels - COLOURS @ LUMA).max() <= 1.0
    image = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(RAMP.T)])
    assert (read_image(saved(tmp_path / "b.png", image)).pixels == RAMP).all()


def test_jpeg_is_read_to_within_its_loss_and_cmyk_as_bright_as_it_looks(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(64, axis=0)
    pixels = read_image(saved(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95)).pixels
    assert np.abs(pixels.astype(int) - smooth).max() <= 4
    flat = Image.new("RGB", (16, 16), (200, 200, 200)).convert("CMYK")
    pixels = read_image(saved(tmp_path / "b.jpg", flat, quality=100)).pixels
    assert np.abs(pixels.astype(int) - 200).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_stretched_between_percentiles(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(900, 3000, (50, 40)).astype(np.uint16)
    values[0, 0] = 65_535  # one burnt-out pixel must not darken the rest
    pixels = read_image(saved(tmp_path / name, Image.fromarray(values))).pixels
    low, high = np.percentile(values, [0.5, 99.5])
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-9
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_stretching_ignores_gain_and_offset(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (50, 40)).astype(np.uint16)
    first = read_image(saved(tmp_path / "a.png", Image.fromarray(values))).pixels
    second = read_image(saved(tmp_path / "b.png", Image.fromarray(values * 8 + 100))).pixels
    assert (first == second).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32])
def test_stretching_is_the_same_in_every_type(kind: type) -> None:
    values = np.random.default_rng(0).integers(-30_000 if kind != np.uint16 else 0, 32_000, (200, 7))
    assert (stretch(values.astype(kind)) == stretch(values.astype(np.float64))).all()
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    ends = np.array([[low, int(0.65 * high + 0.35 * low), high]], kind)  # differences do not fit the type
    assert (stretch(ends) == stretch(ends.astype(np.float64))).all()


def test_an_even_image_is_black_and_a_small_object_that_percentiles_miss_is_kept(tmp_path: Path) -> None:
    values = np.full((100, 100), 10, np.uint16)
    assert not read_image(saved(tmp_path / "a.png", Image.fromarray(values))).pixels.any()
    values[5, 5] = 4000
    pixels = read_image(saved(tmp_path / "b.png", Image.fromarray(values))).pixels
    assert (pixels[5, 5], pixels.sum()) == (255, 255)


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


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    values = np.arange(1000, dtype=np.uint16).reshape(25, 40)
    plain = read_image(saved(tmp_path / "a.tif", Image.fromarray(values))).pixels
    inverted = read_image(saved(tmp_path / "b.tif", Image.fromarray(values), tiffinfo={262: 0})).pixels
    assert (inverted == 255 - plain).all()


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


def refusal(path: Path, read: object = read_image) -> str:
    with pytest.raises(DataError) as caught:
        read(path)  # type: ignore[operator]
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    return problem.what


def test_refused_float_pixels_and_colour_masks(tmp_path: Path) -> None:
    what = refusal(saved(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.float32))))
    assert "floating point or unknown), whose range is not known; 8- and 16-bit integers are accepted" in what
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
    path, unknown = tmp_path / "a.png", "is no PNG, JPEG, TIFF, BMP or DICOM file of a kind that can be read."
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
