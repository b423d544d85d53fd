"""Equalisation and gamma: the rule, the depth of files, the order of steps, memory, real radiographs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import rankdata

from tests.data.conftest import cases_of
from tests.data.test_decode import oriented
from tests.data.test_dicom import padded
from tests.data.test_dicom import write as write_dicom
from xferlab.data.check import check_sections
from xferlab.data.decode import read_image
from xferlab.data.preprocessing import degraded, equalised, height_without_band, with_gamma
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Decoded

KINDS = [np.uint8, np.uint16, np.int16, np.int32, np.float64]


def by_ranks(values: np.ndarray, *, gamma: float = 1.0) -> np.ndarray:
    """What equalisation gives, from SciPy's ranks, not rounded."""
    at_most = rankdata(values, method="max").reshape(values.shape)
    darkest = (values == values.min()).sum()
    return 255 * ((at_most - darkest) / (values.size - darkest)) ** gamma


def is_near(image: np.ndarray, expected: np.ndarray) -> bool:
    """Whether an image is these values, rounded."""
    return image.dtype == np.uint8 and bool(np.abs(image - expected).max() <= 0.5 + 1e-9)


@pytest.mark.parametrize(("kind", "third"), [(np.uint8, 200), (np.uint16, 60_000), (np.float64, 7.25)])
def test_equalisation_by_hand(kind: type, third: float) -> None:
    """Of 8 pixels 3 are the darkest; 2, 1 and 2 of the other 5 follow."""
    values = np.array([[3, 3, 3, 7], [7, 7.1 + (kind != np.float64), third, third]]).astype(kind)
    shown = [[0, 0, 0, 102], [102, 153, 255, 255]]
    assert equalised(values).tolist() == shown
    roots = [[0, 0, 0, 161], [161, 198, 255, 255]]  # 255 times the roots of 0.4 and 0.6
    assert equalised(values, gamma=0.5).tolist() == roots


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [1.0, 0.5, 2.0])
def test_equalisation_is_by_ranks_and_forgets_curves(kind: type, gamma: float) -> None:
    rng = np.random.default_rng(int(10 * gamma))
    image = rng.integers(0, 80, (130, 7))
    curve = np.sort(rng.choice(np.arange(0, 256, 1 if kind == np.uint8 else 0.5), 80, replace=False))
    curve = curve if kind in (np.uint8, np.float64) else curve * 60
    shown = equalised(curve[image].astype(kind), gamma=gamma)
    assert is_near(shown, by_ranks(image, gamma=gamma))
    assert (shown == equalised(image.astype(np.uint8), gamma=gamma)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_even_images_become_black(kind: type) -> None:
    for value in (0, 100):
        even = np.full((3, 5), value, kind)
        assert not equalised(even, gamma=0.5).any()
        assert not equalised(even, np.zeros(even.shape, bool)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_counted_and_lies_where_its_value_does(kind: type) -> None:
    image = np.random.default_rng(1).integers(20, 100, (70, 9)).astype(kind)
    valid = np.ones(image.shape, bool)
    image[0], image[1], image[2], valid[:3] = 3, 120, image[3], False
    shown = equalised(image, valid, gamma=0.5)
    assert is_near(shown[3:], by_ranks(image[3:], gamma=0.5))
    assert not shown[0].any()
    assert (shown[1] == 255).all()
    assert (shown[2] == shown[3]).all()


def test_gamma_is_a_power_of_the_share_of_white() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    for gamma in (0.5, 1.0, 1.7):
        assert is_near(with_gamma(levels, gamma), 255 * (levels / 255) ** gamma)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_huge_image_takes_a_few_bytes_a_pixel(kind: type) -> None:
    image = np.arange(1500 * 1500, dtype=np.uint32).reshape(1500, 1500).astype(kind)
    tracemalloc.start()
    equalised(image, gamma=0.5)
    with_gamma(image.astype(np.uint8), 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * image.size + 4_000_000  # of 64 rows, some 8 bytes a pixel


# --- files --------------------------------------------------------------------------------------------

DEEP = np.random.default_rng(2).integers(900, 3000, (40, 31)).astype(np.uint16)
DEEP[0] = 65_535  # the rest is a few of 256 levels
DEEP[30:] = 7
BITS = {"BitsStored": 16, "HighBit": 15}
WINDOW = {"WindowCenter": 1000, "WindowWidth": 10, **BITS}


def of_values(path: Path, name: str) -> np.ndarray:
    """Writes a file whose 8 bits lose much; returns its values, bright where the picture is."""
    if name == "inverted.tif":
        Image.fromarray(DEEP).save(path, tiffinfo={262: 0})
        return -DEEP.astype(float)
    if name == "turned.tif":
        Image.fromarray(DEEP).save(path, tiffinfo={274: 6})
        return np.rot90(DEEP, -1)
    if name == "inverted.dcm":
        write_dicom(path, DEEP, PhotometricInterpretation="MONOCHROME1", **WINDOW)
        return -DEEP.astype(float)
    if name == "rescaled.dcm":
        write_dicom(path, DEEP, RescaleSlope=-0.25, RescaleIntercept=9, **BITS)
        return -DEEP.astype(float)
    if name.endswith(".dcm"):
        write_dicom(path, DEEP, **WINDOW)
    else:
        Image.fromarray(DEEP).save(path)
    return DEEP


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.tif", "a.dcm", "inverted.tif", "turned.tif", "inverted.dcm", "rescaled.dcm"],
)
def test_files_are_equalised_at_their_own_depth(folder: Any, tmp_path: Path, name: str) -> None:
    values = of_values(folder.root / "images" / name, name)
    Image.fromarray(np.zeros(values.shape, np.uint8)).save(folder.root / "masks/0.png")
    folder.rows = [folder.rows[0] | {"image": f"images/{name}"}]
    folder.write()
    (image,) = images(folder.section(equalise=True, gamma=0.5), tmp_path)
    assert is_near(image, by_ranks(values, gamma=0.5))
    for fields, num_remarks in (({"equalise": True}, 0), ({"gamma": 0.5}, 1)):
        problems = check_sections({"s": folder.section(**fields)}, memo_dir=tmp_path / "memo")
        lost = [problem for problem in problems if "grey levels" in problem.what]
        assert len(lost) == num_remarks


def test_padding_of_dicom_is_not_counted(tmp_path: Path) -> None:
    stored = padded(60_000, 60_000)
    path = write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=60_000, **BITS)
    levels = read_image(path, own_depth=True).levels
    assert levels is not None
    assert levels.valid is not None
    shown = equalised(levels.values, levels.valid)
    assert is_near(shown[5:], by_ranks(stored[5:]))
    assert (shown[:5] == 255).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_eight_bits_have_no_other_depth_and_reading_it_changes_no_pixel(
    tmp_path: Path, orientation: int
) -> None:
    oriented(tmp_path / "a.png", orientation)
    assert read_image(tmp_path / "a.png", own_depth=True).levels is None
    for name in ("a.png", "b.png", "b.dcm"):
        if name != "a.png":
            of_values(tmp_path / name, name)
        pictures = [read_image(tmp_path / name, own_depth=deep).pixels for deep in (False, True)]
        assert (pictures[0] == pictures[1]).all()


# --- sections -----------------------------------------------------------------------------------------


def decoded(config: Any, tmp_path: Path) -> list[Decoded]:
    source = open_source("s", config, memo_dir=tmp_path / "memo")
    return [source.decode(case) for case in source.cases()]


def images(config: Any, tmp_path: Path) -> list[np.ndarray]:
    found = decoded(config, tmp_path)
    assert all(case.levels is None for case in found)
    return [case.image for case in found]


def test_gamma_alone_acts_on_eight_bits(folder: Any, tmp_path: Path) -> None:
    folder.put("0", DEEP, np.zeros(DEEP.shape, np.uint8))
    plain, bright = (images(folder.section(**fields), tmp_path) for fields in ({}, {"gamma": 0.5}))
    for before, after in zip(plain, bright, strict=True):
        assert is_near(after, 255 * (before / 255) ** 0.5)


@pytest.mark.parametrize("deep", [False, True])
def test_the_band_is_cut_then_sharpness_lost_then_levels_are_changed(
    folder: Any, tmp_path: Path, deep: bool
) -> None:
    film = DEEP if deep else np.maximum(DEEP % 256, 9).astype(np.uint8)
    film = np.where(np.arange(40)[:, None] < 30, film, 0)
    folder.rows = [folder.put("0", film, np.zeros(film.shape, np.uint8))]
    folder.write()
    steps = {"crop_black_band": True, "degrade_to": 16, "equalise": True, "gamma": 0.5}
    (image,) = images(folder.section(**steps), tmp_path)
    whole = Image.fromarray(film[:30].astype(np.float32) if deep else film[:30])
    small = whole.resize((16, 15), Image.Resampling.BILINEAR).resize((31, 30), Image.Resampling.BILINEAR)
    assert is_near(image, by_ranks(np.asarray(small), gamma=0.5))


def test_the_picture_of_a_simulated_device_is_equalised(folder: Any, tmp_path: Path) -> None:
    from xferlab.phantoms.device import simulate_portable

    folder.rows = [folder.put("0", DEEP, np.zeros(DEEP.shape, np.uint8))]
    folder.write()
    config = folder.section(simulate="portable", degrade_to=20, equalise=True)
    (plain,), (after,) = images(folder.section(), tmp_path), images(config, tmp_path)
    (case,) = cases_of(config, tmp_path)
    image, _ = simulate_portable(plain, np.zeros((0, *plain.shape), np.uint8), seed=0, key=case.image_sha256)
    assert is_near(after, by_ranks(degraded(image, 20)))


def test_real_radiographs(section: Any, real_data: Path, tmp_path: Path, real_memo: Path) -> None:
    root = real_data / "montgomery-512"
    steps = {"crop_black_band": True, "equalise": True, "gamma": 0.5}
    config = section(source="manifest", root=str(root), **steps)
    source = open_source("s", config, memo_dir=real_memo)
    heights = set()
    for case in source.cases()[::20]:
        film = read_image(root / case.name).pixels
        height = height_without_band(film)
        after = source.decode(case)
        assert is_near(after.image, by_ranks(film[:height], gamma=0.5))
        assert after.targets.shape[1:] == after.image.shape
        heights.add(height < len(film))
    assert True in heights
