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
from tests.data.test_dicom import write as write_dicom
from tests.data.test_preprocessing import decoded
from xferlab.data.check import check_sections
from xferlab.data.decode import read_image
from xferlab.data.preprocessing import degraded, equalised, height_without_band, with_gamma
from xferlab.data.sources.registry import open_source
from xferlab.phantoms.device import simulate_portable

KINDS = [np.uint8, np.uint16, np.int16, np.int32, np.float64]
TONES = {"equalise": True, "gamma": 0.5}


def by_ranks(values: np.ndarray, *, gamma: float = 1.0) -> np.ndarray:
    """What equalisation gives, from SciPy's ranks, not rounded."""
    at_most = rankdata(values, method="max").reshape(values.shape)
    darkest = (values == values.min()).sum()
    return 255 * ((at_most - darkest) / (values.size - darkest)) ** gamma


def is_near(image: np.ndarray, expected: np.ndarray) -> bool:
    """Whether an image is these values, rounded."""
    return image.dtype == np.uint8 and bool(np.abs(image - expected).max() <= 0.5 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equalisation_by_hand(kind: type) -> None:
    """Of 8 pixels 3 are the darkest; 2, 1 and 2 of the other 5 follow. An even image becomes black."""
    values = np.array([[3, 3, 3, 7], [7, 8, 120, 120]], kind)
    assert equalised(values).tolist() == [[0, 0, 0, 102], [102, 153, 255, 255]]
    assert equalised(values, gamma=0.5).tolist() == [[0, 0, 0, 161], [161, 198, 255, 255]]  # 255 root 0.4
    for even in (np.zeros((3, 5), kind), np.full((3, 5), 100, kind)):
        assert not equalised(even, np.zeros(even.shape, bool), gamma=0.5).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [1.0, 0.5, 2.0])
def test_equalisation_is_by_ranks_and_forgets_curves(kind: type, gamma: float) -> None:
    rng = np.random.default_rng(int(10 * gamma))
    image = rng.integers(0, 80, (130, 7))
    high = {np.uint8: 256, np.float64: 2**40}.get(kind, 2**15)
    curve = np.sort(rng.integers(0, high - 80, 80)) + np.arange(80)
    shown = equalised(curve[image].astype(kind), gamma=gamma)
    assert is_near(shown, by_ranks(image, gamma=gamma))
    assert (shown == equalised(image.astype(np.uint8), gamma=gamma)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_counted_and_lies_where_its_value_does(kind: type) -> None:
    image = np.random.default_rng(1).integers(20, 100, (70, 9)).astype(kind)
    image[0], image[1], image[2] = 3, 120, image[3]
    shown = equalised(image, np.arange(70)[:, None] * np.ones(9) > 2, gamma=0.5)
    assert is_near(shown[3:], by_ranks(image[3:], gamma=0.5))
    assert (shown[:3] == np.stack([0 * shown[3], 0 * shown[3] + 255, shown[3]])).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_huge_image_takes_a_few_bytes_a_pixel(kind: type) -> None:
    image = np.arange(1500 * 1500, dtype=np.uint32).reshape(1500, 1500).astype(kind)
    tracemalloc.start()
    equalised(image, gamma=0.5)
    with_gamma(image.astype(np.uint8), 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * image.size + 4_000_000  # of 64 rows, some 8 bytes a pixel


DEEP = np.random.default_rng(2).integers(900, 3000, (40, 31)).astype(np.uint16)
DEEP[0] = 65_535  # the rest is a few of 256 levels
DEEP[30:] = 7
BITS = {"BitsStored": 16, "HighBit": 15}
WINDOW = {"WindowCenter": 1000, "WindowWidth": 10, **BITS}
MINUS = -DEEP.astype(float)
FILES: list[tuple[str, dict[str, Any], np.ndarray]] = [
    ("a.png", {}, DEEP),
    ("a.tif", {"tiffinfo": {262: 0}}, MINUS),
    ("a.tif", {"tiffinfo": {274: 6}}, np.rot90(DEEP, -1)),
    ("a.dcm", WINDOW, DEEP),
    ("a.dcm", {"PhotometricInterpretation": "MONOCHROME1", **WINDOW}, MINUS),
    ("a.dcm", {"RescaleSlope": -0.25, "RescaleIntercept": 9, **BITS}, MINUS),
]
"""Files of `DEEP` whose 8 bits lose much, and their values, bright where the picture is."""


def store(path: Path, stored: np.ndarray, **fields: Any) -> None:
    if path.suffix == ".dcm":
        write_dicom(path, stored, **fields)
    else:
        Image.fromarray(stored).save(path, **fields)


def put_alone(folder: Any, name: str, stored: np.ndarray, shape: tuple[int, ...], **fields: Any) -> None:
    """Makes a file the only one of a folder."""
    store(folder.root / "images" / name, stored, **fields)
    Image.fromarray(np.zeros(shape, np.uint8)).save(folder.root / "masks/0.png")
    folder.rows = [folder.rows[0] | {"image": f"images/{name}"}]
    folder.write()


@pytest.mark.parametrize(("name", "fields", "values"), FILES)
def test_files_are_equalised_at_their_own_depth(
    folder: Any, tmp_path: Path, name: str, fields: dict[str, Any], values: np.ndarray
) -> None:
    """What their 8 bits lose is then no finding."""
    put_alone(folder, name, DEEP, values.shape, **fields)
    (case,) = decoded(folder.section(**TONES), tmp_path)
    assert is_near(case.image, by_ranks(values, gamma=0.5))
    assert case.levels is None
    for steps, num_remarks in (({"equalise": True}, 0), ({"gamma": 0.5}, 1)):
        problems = check_sections({"s": folder.section(**steps)}, memo_dir=tmp_path / "memo")
        assert len([problem for problem in problems if "grey levels" in problem.what]) == num_remarks
    path = folder.root / "images" / name
    assert (read_image(path, own_depth=True).pixels == read_image(path).pixels).all()


def test_padding_of_dicom_is_not_counted(folder: Any, tmp_path: Path) -> None:
    put_alone(folder, "a.dcm", DEEP, DEEP.shape, PixelPaddingValue=65_535, **BITS)
    (case,) = decoded(folder.section(equalise=True), tmp_path)
    assert is_near(case.image[1:], by_ranks(DEEP[1:]))


@pytest.mark.parametrize("deep", [False, True])
def test_the_band_is_cut_then_sharpness_lost_then_levels_are_changed(
    folder: Any, tmp_path: Path, deep: bool
) -> None:
    film = np.where(np.arange(40)[:, None] < 30, DEEP if deep else np.maximum(DEEP % 256, 9), 0)
    put_alone(folder, "a.png", film.astype(np.uint16 if deep else np.uint8), film.shape)
    (case,) = decoded(folder.section(crop_black_band=True, degrade_to=16, **TONES), tmp_path)
    whole = Image.fromarray(film[:30].astype(np.float32 if deep else np.uint8))
    small = whole.resize((16, 15), Image.Resampling.BILINEAR).resize((31, 30), Image.Resampling.BILINEAR)
    assert is_near(case.image, by_ranks(np.asarray(small), gamma=0.5))


def test_gamma_alone_and_simulated_devices_are_of_eight_bits(folder: Any, tmp_path: Path) -> None:
    put_alone(folder, "a.png", DEEP, DEEP.shape)
    (plain,), (bright,) = decoded(folder.section(), tmp_path), decoded(folder.section(gamma=0.5), tmp_path)
    assert is_near(bright.image, 255 * (plain.image / 255) ** 0.5)
    config = folder.section(simulate="portable", degrade_to=20, equalise=True)
    ((after,), (case,)) = decoded(config, tmp_path), cases_of(config, tmp_path)
    image, _ = simulate_portable(plain.image, plain.targets, seed=0, key=case.image_sha256)
    assert is_near(after.image, by_ranks(degraded(image, 20)))


def test_real_radiographs(section: Any, real_data: Path, real_memo: Path) -> None:
    config = section(source="manifest", root=str(real_data / "montgomery-512"), crop_black_band=True, **TONES)
    source, cut = open_source("s", config, memo_dir=real_memo), 0
    for case in source.cases()[::20]:
        film, after = read_image(Path(config.root) / case.name).pixels, source.decode(case)
        height = height_without_band(film)
        assert is_near(after.image, by_ranks(film[:height], gamma=0.5))
        cut += len(film) - height
    assert cut > 0
