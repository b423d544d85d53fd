"""The LGG source on volumes in the published layout, made of numbers that can be followed by hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import index_sections
from xferlab.cohort import Case
from xferlab.data.check import check_sections
from xferlab.data.sources.lgg import reading as lgg
from xferlab.data.sources.registry import open_source
from xferlab.errors import DataError

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


def cases(section: Any, root: Path, **fields: Any) -> tuple[Case, ...]:
    config = section(source="lgg", root=str(root), **fields)
    return index_sections({"s": config}, memo_dir=root.parent / "memo")["s"]


def test_ends_are_dropped_in_the_order_of_numbers(section: Any, root: Path) -> None:
    all_cases = cases(section, root)
    numbers = [int(c.name[:-4].rpartition("_")[2]) for c in all_cases if "TCGA_CS_1111_1999" in c.name]
    assert sorted(numbers) == list(range(2, 12))
    assert len(all_cases) == sum(count - 2 for count in VOLUMES.values())
    assert len(cases(section, root, drop_ends=0)) == sum(VOLUMES.values())


def test_a_patient_is_not_a_visit(section: Any, root: Path) -> None:
    assert {c.patient for c in cases(section, root)} == {"TCGA_CS_1111", "TCGA_DU_2222"}
    assert lgg.patient_of("volunteer_7") == "volunteer_7"


def test_pathology_tells_the_lesion(section: Any, root: Path) -> None:
    all_cases = cases(section, root)
    assert Counter(c.pathology for c in all_cases) == {"tumour": 7, "no_tumour": 10}
    chosen = cases(section, root, where={"pathology": "tumour"})
    assert set(chosen) == {c for c in all_cases if c.pathology == "tumour"}


@pytest.mark.usefixtures("remembering")
def test_known_masks_are_not_read(section: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cases(section, root)
    assert before == cases(section, root / "kaggle_3m")
    monkeypatch.setattr(lgg, "read_labels", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert cases(section, root) == before


def test_a_slice_depends_on_its_volume_only(section: Any, root: Path) -> None:
    before = {c.name: c.digest for c in cases(section, root)}
    folder = "TCGA_DU_2222_19990101"
    Image.fromarray(slice_pixels(7)).save(root / "kaggle_3m" / folder / f"{folder}_3.tif")
    after = {c.name: c.digest for c in cases(section, root)}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.startswith(folder)}


def test_pixels(section: Any, root: Path) -> None:
    config = section(source="lgg", root=str(root))
    source = open_source("s", config, memo_dir=root.parent / "memo")
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
    assert (decoded.target == expected).all()


def test_slices_without_a_lesion_are_nothing_odd(section: Any, root: Path) -> None:
    config = section(source="lgg", root=str(root))
    assert check_sections({"s": config}, memo_dir=root.parent / "memo") == []


def test_findings(section: Any, root: Path) -> None:
    folder = root / "kaggle_3m" / "TCGA_CS_1111_19990101"
    (folder / f"{folder.name}_5_mask.tif").unlink()
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(folder / f"{folder.name}_6_mask.tif")
    (folder / f"{folder.name}_7.tif").write_bytes(b"not an image")
    other = root / "kaggle_3m" / "TCGA_DU_2222_19990101"
    Image.fromarray(np.zeros((30, 32), np.uint8)).save(other / f"{other.name}_3_mask.tif")
    short = root / "kaggle_3m" / "TCGA_XX_3333_19990101"
    short.mkdir()
    Image.fromarray(slice_pixels(0)).save(short / f"{short.name}_1.tif")
    config = section(source="lgg", root=str(root))
    problems = check_sections({"s": config}, memo_dir=root.parent / "m")
    assert {Path(problem.where).name: problem.what for problem in problems} == {
        f"{folder.name}_5_mask.tif": "No such file or directory.",
        f"{folder.name}_6_mask.tif": "mask values 9; a lesion is 255, everything else 0.",
        f"{folder.name}_7.tif": "is no PNG, JPEG, TIFF, BMP or DICOM file of a kind that can be read.",
        f"{other.name}_3_mask.tif": "the mask's shape is (30, 32), its image's (32, 32).",
        short.name: "1 slices, of which `drop_ends: 1` leaves none.",
    }


def test_slices_of_several_sizes(section: Any, root: Path) -> None:
    folder = root / "kaggle_3m" / "TCGA_DU_2222_19990101"
    Image.fromarray(slice_pixels(0)[:30]).save(folder / f"{folder.name}_3.tif")
    source = open_source("s", section(source="lgg", root=str(root)), memo_dir=root.parent / "memo")
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
def test_other_folders(section: Any, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "lgg").mkdir()
    with pytest.raises(DataError, match=message):
        cases(section, tmp_path / name)
