"""The LGG source on volumes in the published layout, made of numbers that can be followed by hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import data_section
from xferlab.cohort import Case
from xferlab.data.check import check_sections
from xferlab.data.sources.lgg import reading as lgg
from xferlab.data.sources.lgg.volume import Scale, brain_box, crop_and_pad, normalised
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Source
from xferlab.errors import DataError, Problem

VOLUMES = {"TCGA_CS_1111_19990101": 12, "TCGA_CS_1111_20000101": 5, "TCGA_DU_2222_19990101": 6}


def slice_pixels(seed: int) -> np.ndarray:
    """A head of 20 rows by 12 columns, from row 6 and column 10; less than a tenth as bright around it."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 12, (32, 32, 3), dtype=np.uint8)
    pixels[6:26, 10:22] = rng.integers(60, 200, (20, 12, 3), dtype=np.uint8)
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "lgg"
    for number, (folder, count) in enumerate(VOLUMES.items()):
        path = root / "kaggle_3m" / folder
        path.mkdir(parents=True)
        for place in range(1, count + 1):
            Image.fromarray(slice_pixels(100 * number + place)).save(path / f"{folder}_{place}.tif")
            mask = np.zeros((32, 32), np.uint8)
            if place in (3, 4, 11):
                mask[10:14, 12:18] = 255
                mask[15 + number, 10 + place] = 255  # no two masks are equal
            Image.fromarray(mask).save(path / f"{folder}_{place}_mask.tif")
    (root / "kaggle_3m" / "data.csv").write_text("Patient\n")
    return root


def lgg_source(root: Path, **fields: Any) -> Source:
    config = data_section(source="lgg", root=str(root), **fields)
    return open_source("s", config, memo_dir=root.parent / "memo")


def cases(root: Path, **fields: Any) -> tuple[Case, ...]:
    return lgg_source(root, **fields).cases()


def problems(root: Path) -> list[Problem]:
    config = data_section(source="lgg", root=str(root))
    return check_sections({"s": config}, memo_dir=root.parent / "memo")


def test_ends_are_dropped_in_the_order_of_numbers(root: Path) -> None:
    all_cases = cases(root)
    numbers = [int(c.name[:-4].rpartition("_")[2]) for c in all_cases if "TCGA_CS_1111_1999" in c.name]
    assert sorted(numbers) == list(range(2, 12))
    assert len(all_cases) == sum(count - 2 for count in VOLUMES.values())
    assert len(cases(root, drop_ends=0)) == sum(VOLUMES.values())


def test_a_patient_is_not_a_visit(root: Path) -> None:
    assert {c.patient for c in cases(root)} == {"TCGA_CS_1111", "TCGA_DU_2222"}
    assert lgg.patient_of("volunteer_7") == "volunteer_7"


def test_pathology_tells_the_lesion(root: Path) -> None:
    all_cases = cases(root)
    assert Counter(c.pathology for c in all_cases) == {"tumour": 7, "no_tumour": 10}
    chosen = cases(root, where={"pathology": "tumour"})
    assert set(chosen) == {c for c in all_cases if c.pathology == "tumour"}


@pytest.mark.usefixtures("remembering")
def test_known_masks_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cases(root)
    assert before == cases(root / "kaggle_3m")
    monkeypatch.setattr(lgg, "read_labels", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert cases(root) == before


def test_a_slice_depends_on_its_volume_only(root: Path) -> None:
    before = {c.name: c.digest for c in cases(root)}
    folder = "TCGA_DU_2222_19990101"
    Image.fromarray(slice_pixels(7)).save(root / "kaggle_3m" / folder / f"{folder}_3.tif")
    after = {c.name: c.digest for c in cases(root)}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith(folder)}


def test_pixels(root: Path) -> None:
    source = lgg_source(root)
    case = next(c for c in source.cases() if c.name.endswith("TCGA_DU_2222_19990101_3.tif"))
    decoded = source.decode(case)
    # Cropped to the head of 20 x 12 and padded to a square, by hand.
    volume = np.zeros((4, 20, 20, 3))
    for place in range(4):
        volume[place, :, 4:16] = slice_pixels(200 + place + 2)[6:26, 10:22]
    low, high = np.percentile(volume, [10, 99])
    shares = np.clip((volume - low) / (high - low), 0, 1)
    z = (shares - shares.mean((0, 1, 2))) / shares.std((0, 1, 2))
    assert np.abs(decoded.image - np.clip((z[1] + 2) / 8 * 255, 0, 255)).max() <= 0.5 + 1e-6
    expected = np.zeros((20, 20), np.uint8)
    expected[4:8, 6:12] = 255
    expected[11, 7] = 255
    assert (decoded.targets == expected).all()


def test_slices_without_a_lesion_are_nothing_odd(root: Path) -> None:
    assert problems(root) == []


def test_findings(root: Path) -> None:
    folder = root / "kaggle_3m" / "TCGA_CS_1111_19990101"
    (folder / f"{folder.name}_5_mask.tif").unlink()
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(folder / f"{folder.name}_6_mask.tif")
    (folder / f"{folder.name}_7.tif").write_bytes(b"not an image")
    other = root / "kaggle_3m" / "TCGA_DU_2222_19990101"
    Image.fromarray(np.zeros((30, 32), np.uint8)).save(other / f"{other.name}_3_mask.tif")
    short = root / "kaggle_3m" / "TCGA_XX_3333_19990101"
    short.mkdir()
    Image.fromarray(slice_pixels(0)).save(short / f"{short.name}_1.tif")
    assert {Path(problem.where).name: problem.what for problem in problems(root)} == {
        f"{folder.name}_5_mask.tif": "No such file or directory.",
        f"{folder.name}_6_mask.tif": "mask values 9; a lesion is 255, everything else 0.",
        f"{folder.name}_7.tif": (
            "is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file of a kind that can be read."
        ),
        f"{other.name}_3_mask.tif": "the mask's shape is (30, 32), its image's (32, 32).",
        short.name: "1 slices, of which `drop_ends: 1` leaves none.",
    }


def test_slices_of_several_sizes(root: Path) -> None:
    folder = root / "kaggle_3m" / "TCGA_DU_2222_19990101"
    Image.fromarray(slice_pixels(0)[:30]).save(folder / f"{folder.name}_3.tif")
    source = lgg_source(root)
    case = next(c for c in source.cases() if folder.name in c.name)
    with pytest.raises(DataError, match="slices of one volume differ in size: 32x30, 32x32"):
        source.decode(case)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "there is no such folder"),
        ("lgg", "no folder holds slices named <folder>/<folder>_<number>"),
    ],
)
def test_other_folders(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "lgg").mkdir()
    with pytest.raises(DataError, match=message):
        cases(tmp_path / name)


def test_box_holds_all_that_is_bright_enough() -> None:
    volume = np.zeros((3, 20, 30, 3), np.uint8)
    volume[0, 4, 7, 1] = 100
    volume[2, 15, 20, 2] = 10
    volume[1, 0, 0, 0] = 9  # below a tenth of the maximum
    assert brain_box(volume) == (4, 16, 7, 21)


def test_empty_volume_keeps_its_area() -> None:
    assert brain_box(np.zeros((2, 8, 9, 3), np.uint8)) == (0, 8, 0, 9)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7), (7, 4), (1, 6)])
def test_padding_centres_and_loses_nothing(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    square = crop_and_pad(pixels, (0, height, 0, width))
    side = max(height, width)
    assert square.shape == (side, side, 3)
    assert square.sum() == pixels.sum()
    top, left = (side - height) // 2, (side - width) // 2
    assert (square[top : top + height, left : left + width] == pixels).all()
    assert (crop_and_pad(pixels[..., 0], (0, height, 0, width)) == square[..., 0]).all()


def test_even_channel_has_z_score_0() -> None:
    image = np.full((2, 2, 3), 50, np.uint8)
    scale = Scale((0, 2, 0, 2), 0.0, 100.0, np.full(3, 0.5), np.zeros(3))
    assert (normalised(image, scale) == 64).all()  # 2 of 8 deviations: a quarter of 255


def test_order_of_grey_levels_is_kept() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=-1)
    scale = Scale((0, 16, 0, 16), 20.0, 220.0, np.array([0.3, 0.4, 0.5]), np.array([0.2, 0.25, 0.3]))
    levels = normalised(image, scale).reshape(256, 3).astype(int)
    assert (np.diff(levels, axis=0) >= 0).all()
    assert (levels[:20] == levels[0]).all()
    assert (levels[220:] == levels[255]).all()
